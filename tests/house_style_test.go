package tests

import (
	"fmt"
	"go/ast"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Sizes that a reader is comfortable with.
const (
	fileLines     = 500
	functionLines = 60
	longestLines  = 120 // for the functions in longFunctions
)

// sizeFaults checks the length of files and functions. Generated files and
// testdata are nobody's reading.
func sizeFaults(t *tree) []string {
	var out []string
	used := map[string]bool{}
	for _, s := range t.files {
		if s.generated || strings.Contains(s.name, "testdata/") || strings.Contains(s.name, "bpf/headers/") {
			continue
		}
		switch path.Ext(s.name) {
		case ".go", ".c", ".h", ".sh", ".py":
		default:
			continue
		}
		if n := lines(s.text); n > fileLines && longFiles[s.name] == "" {
			out = append(out, fmt.Sprintf("%s: %d lines, at most %d are read with comfort: which two names would say it better?", s.name, n, fileLines))
		}
		for name, n := range functions(s) {
			full := s.dir() + "." + name
			limit := functionLines
			if longFunctions[full] != "" {
				limit, used[full] = longestLines, true
			}
			if n > limit {
				out = append(out, fmt.Sprintf("%s: %s has %d lines, at most %d", s.name, name, n, limit))
			}
		}
	}
	for name := range longFunctions {
		if !used[name] {
			out = append(out, name+": it is named as a long function, but there is no such function")
		}
	}
	return out
}

// functions returns the length of each function of a Go or C file, from its
// first line to its closing brace.
func functions(s *source) map[string]int {
	out := map[string]int{}
	if s.syntax == nil {
		return cFunctions(s)
	}
	for _, d := range s.syntax.Decls {
		if f, ok := d.(*ast.FuncDecl); ok {
			out[functionName(f)] = s.set.Position(f.End()).Line - s.set.Position(f.Pos()).Line + 1
		}
	}
	return out
}

// functionName returns "Name", or "Receiver.Name".
func functionName(f *ast.FuncDecl) string {
	if f.Recv == nil || len(f.Recv.List) == 0 {
		return f.Name.Name
	}
	receiver := f.Recv.List[0].Type
	if star, ok := receiver.(*ast.StarExpr); ok {
		receiver = star.X
	}
	if generic, ok := receiver.(*ast.IndexExpr); ok {
		receiver = generic.X
	}
	if id, ok := receiver.(*ast.Ident); ok {
		return id.Name + "." + f.Name.Name
	}
	return f.Name.Name
}

var cName = regexp.MustCompile(`(\w+)\(`)

// cFunctions relies on kernel style: the braces of a function stand alone in
// the first column.
func cFunctions(s *source) map[string]int {
	out := map[string]int{}
	if ext := path.Ext(s.name); ext != ".c" && ext != ".h" {
		return out
	}
	name, open := "", 0
	for i, line := range strings.Split(s.text, "\n") {
		switch {
		case line == "{":
			open = i
		case line == "}" && open > 0:
			out[name] = i - open + 2 // with the line that names it
			open = 0
		case open == 0:
			if m := cName.FindStringSubmatch(line); m != nil && !strings.HasPrefix(line, "\t") && !strings.HasPrefix(line, "#") {
				name = m[1]
			}
		}
	}
	return out
}

// habitFaults checks what Go code does.
func habitFaults(t *tree) []string {
	var out []string
	for _, s := range t.goFiles() {
		if s.generated {
			continue
		}
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			if fault := habitFault(s, n); fault != "" {
				out = append(out, fmt.Sprintf("%s:%d: %s", s.name, s.set.Position(n.Pos()).Line, fault))
			}
			return true
		})
	}
	return out
}

func habitFault(s *source, n ast.Node) string {
	switch n := n.(type) {
	case *ast.GoStmt:
		if _, ok := roomOf(goroutineRooms, s.dir()); !ok && !s.test() {
			return "a goroutine is started outside of " + strings.Join(sortedKeys(goroutineRooms), ", ")
		}
	case *ast.SelectorExpr:
		from, ok := n.X.(*ast.Ident)
		if !ok {
			return ""
		}
		switch call := from.Name + "." + n.Sel.Name; call {
		case "time.Sleep":
			if s.test() || under(s.dir(), "tests") {
				return "a test sleeps: wait for what it waits for, or use a clock of its own"
			}
		case "os.Exit", "log.Fatal", "log.Fatalf", "log.Fatalln":
			if !s.test() && s.dir() != "cmd/edgelog" && !(under(s.dir(), "tests") && s.syntax.Name.Name == "main") {
				return call + " ends the process past every clean-up: return an error"
			}
		}
	}
	return ""
}

func roomOf(rooms map[string]string, dir string) (string, bool) {
	for r := range rooms {
		if under(dir, r) {
			return r, true
		}
	}
	return "", false
}

func sortedKeys(m map[string]string) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// banned are words that the project's text may not hold. They are written in
// two parts here, since this file is read too.
var banned = []struct{ pattern, reason string }{
	{`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`, "finish it, or say as a fact what it does not do"},
	{`(?i)\bnot ` + `implemented\b`, "finish it, or leave it out"},
	{`(^|[^\w./-])/wo` + `rk/`, "a path of one machine"},
	{`(^|[^\w./-])/ro` + `ot/`, "a path of one machine"},
	{`/home/[a-z]`, "a path of one machine"},
	{`(?i)go` + `proxy\.(cn|io)|proxy\.go` + `lang\.org|artifact` + `ory|deb\.deb` + `ian\.org|snap` + `shot\.debian`, "where packages come from is the machine's affair"},
	{`(?i)\b(clau` + `de|anth` + `ropic|chat` + `gpt|open` + `ai|copi` + `lot|gpt-?[0-9])\b`, "the text speaks of the project, not of who typed it"},
	{`(?i)\b(AI|LLM)[ -](assist|gener|agent|writ|tool|model)`, "the text speaks of the project, not of who typed it"},
	{`(?i)\blanguage ` + `model`, "the text speaks of the project, not of who typed it"},
	{`(?i)\biss` + `ue #?[0-9]\b`, "a reader of the code has no list of issues: say what is meant"},
	{`\bDUT` + `IES\.md|\bHOU` + `SE\.md|\bDES` + `IGN\.md|\bless` + `ons\.md|\blibr` + `aries\.md|\bstand` + `ards\.md`, "not part of the project: say what is meant"},
}

// wordFaults looks for banned words in all text. go.sum is not text.
func wordFaults(t *tree) []string {
	var out []string
	for _, b := range banned {
		re := regexp.MustCompile(`(?m)` + b.pattern)
		for _, s := range t.files {
			if s.name == "LICENSE" || s.generated || strings.Contains(s.name, "testdata/") || !s.isText() {
				continue
			}
			for _, at := range re.FindAllStringIndex(s.text, -1) {
				line := 1 + strings.Count(s.text[:at[0]], "\n")
				out = append(out, s.name+":"+strconv.Itoa(line)+": "+strconv.Quote(strings.TrimSpace(s.text[at[0]:at[1]]))+": "+b.reason)
			}
		}
	}
	return out
}

const kernelLicence = "SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause"

// licenceFaults checks the first line of each kernel source.
func licenceFaults(t *tree) []string {
	var out []string
	for _, s := range t.files {
		ext := path.Ext(s.name)
		if !under(s.name, "bpf") || ext != ".c" && ext != ".h" || strings.HasPrefix(s.name, "bpf/headers/") {
			continue
		}
		first, _, _ := strings.Cut(s.text, "\n")
		if first != "// "+kernelLicence && first != "/* "+kernelLicence+" */" {
			out = append(out, s.name+": its first line is not the comment "+kernelLicence)
		}
	}
	return out
}
