package config

import (
	"bytes"
	"strings"
)

// places knows on which line each key of a TOML text stands. It only serves
// messages: where it cannot tell, it names the line of the section, or none.
type places map[string]int

// locate reads the headers and the left-hand sides of a TOML text. It knows
// bare, quoted and dotted keys and skips multi-line texts and arrays; keys
// inside inline tables are found as the key that holds them.
func locate(text []byte) places {
	p := places{}
	counts := map[string]int{}
	section, closing, depth := "", "", 0
	for i, raw := range bytes.Split(text, []byte("\n")) {
		line := strings.TrimSpace(string(raw))
		if closing != "" { // inside """ or '''
			if strings.Contains(line, closing) {
				closing = ""
			}
			continue
		}
		if depth > 0 { // inside [ … ] of a value
			depth += brackets(line)
			continue
		}
		switch {
		case line == "" || line[0] == '#':
		case strings.HasPrefix(line, "[["):
			name := bare(strings.SplitN(line[2:], "]]", 2)[0])
			section = element(name, counts[name])
			counts[name]++
			p.put(name, i+1)
			p.put(section, i+1)
		case line[0] == '[':
			section = bare(strings.SplitN(line[1:], "]", 2)[0])
			p.put(section, i+1)
		default:
			key, value, ok := strings.Cut(line, "=")
			if !ok {
				continue
			}
			p.put(join(section, bare(key)), i+1)
			value = strings.TrimSpace(value)
			for _, q := range []string{`"""`, `'''`} {
				if strings.Count(value, q)%2 == 1 {
					closing = q
				}
			}
			if strings.HasPrefix(value, "[") {
				depth = brackets(value)
			}
		}
	}
	return p
}

func (p places) put(key string, line int) {
	if _, ok := p[key]; !ok {
		p[key] = line
	}
}

// line returns the line of key, else of the section that would hold it, else 0.
func (p places) line(key string) int {
	for key != "" {
		if n := p[key]; n > 0 {
			return n
		}
		cut := strings.LastIndexByte(key, '.')
		if cut < 0 {
			break
		}
		key = key[:cut]
	}
	return 0
}

// brackets returns how many more [ than ] stand in a line outside of texts and
// comments.
func brackets(line string) int {
	n, quote := 0, rune(0)
	for _, c := range line {
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '#':
			return n
		case c == '[':
			n++
		case c == ']':
			n--
		}
	}
	return n
}

// bare takes spaces and quotes out of a dotted key.
func bare(key string) string {
	parts := strings.Split(key, ".")
	for i, s := range parts {
		parts[i] = strings.Trim(strings.TrimSpace(s), `"'`)
	}
	return strings.Join(parts, ".")
}

func join(section, key string) string {
	if section == "" {
		return key
	}
	return section + "." + key
}
