package dhcp

// token is what a lease file of ISC dhcpd consists of.
type token uint8

const (
	tokEnd token = iota // of the text
	tokWord
	tokString // without its quotation marks, escapes as they are
	tokOpen
	tokClose
	tokSemi
)

// iscLexer cuts a text into tokens.
type iscLexer struct {
	b         []byte
	at        int // what is read next
	line      int // its line
	token     []byte
	from      int // where the token begins
	tokenLine int
	last      token
	cut       bool // the text ended within a token or comment
}

// next returns the kind of the next token, which is in l.token.
func (l *iscLexer) next() token {
	l.last = l.scan()
	return l.last
}

func (l *iscLexer) scan() token {
	for l.at < len(l.b) {
		c := l.b[l.at]
		switch {
		case c == '\n':
			l.line++
			l.at++
		case c == ' ' || c == '\t' || c == '\r':
			l.at++
		case c == '#':
			for l.at < len(l.b) && l.b[l.at] != '\n' {
				l.at++
			}
			if l.at == len(l.b) {
				l.cut = true
			}
		default:
			return l.read(c)
		}
	}
	l.from, l.tokenLine, l.token = l.at, l.line, nil
	return tokEnd
}

func (l *iscLexer) read(c byte) token {
	l.from, l.tokenLine = l.at, l.line
	if c == '"' {
		return l.quoted()
	}
	if t := marks[c]; t != tokEnd {
		l.token = l.b[l.at : l.at+1]
		l.at++
		return t
	}
	for l.at < len(l.b) && !endsWord[l.b[l.at]] {
		l.at++
	}
	l.token = l.b[l.from:l.at]
	if l.at == len(l.b) {
		l.cut = true // it may go on
	}
	return tokWord
}

var marks = [256]token{'{': tokOpen, '}': tokClose, ';': tokSemi}

var endsWord = [256]bool{' ': true, '\t': true, '\r': true, '\n': true, '{': true, '}': true, ';': true, '"': true, '#': true}

func (l *iscLexer) quoted() token {
	for i := l.at + 1; i < len(l.b); i++ {
		switch l.b[i] {
		case '\\':
			i++
		case '\n':
			l.line++
		case '"':
			l.token = l.b[l.at+1 : i]
			l.at = i + 1
			return tokString
		}
	}
	l.cut, l.at, l.token = true, len(l.b), nil
	return tokEnd
}

// skip goes behind the end of a statement: a semicolon, or the brace that
// closes its block, if that has not been read yet.
func (l *iscLexer) skip() string {
	if l.last == tokWord {
		l.hurry()
	}
	depth := 0
	for t := l.last; ; t = l.next() {
		switch t {
		case tokOpen:
			depth++
		case tokClose:
			if depth--; depth < 0 {
				return badSyntax
			}
			if depth == 0 {
				return ""
			}
		case tokSemi:
			if depth == 0 {
				return ""
			}
		case tokEnd:
			return badCut
		}
	}
}

// hurry goes to the next byte that may end a statement or make it longer than
// its line.
func (l *iscLexer) hurry() {
	for l.at < len(l.b) && !stops[l.b[l.at]] {
		l.at++
	}
}

var stops = [256]bool{'\n': true, '{': true, '}': true, ';': true, '"': true, '#': true}

// value reads the bytes of an identifier: a string, or hexadecimal with colons.
func (l *iscLexer) value() []byte {
	switch l.next() {
	case tokString:
		return unescapeISC(l.token)
	case tokWord:
		return fromHex(string(l.token))
	}
	return nil
}
