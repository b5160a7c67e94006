package tests

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/edgelog/edgelog"

// tree is the text of the project: all files but those that git ignores.
type tree struct {
	top   []string
	files []*source
}

// source is one file. The Go parts are set for Go files only.
type source struct {
	name      string // relative to the module's root
	text      string
	generated bool

	set     *token.FileSet
	syntax  *ast.File
	imports []string
}

func (s *source) dir() string { return path.Dir(s.name) }
func (s *source) test() bool  { return strings.HasSuffix(s.name, "_test.go") }

// pkg is what the Go files of one directory import, tests left out.
type pkg struct {
	dir, name string
	files     []string
	own       []string // directories of this module
}

// loadTree reads the project from the directory above this one.
func loadTree(t *testing.T) *tree {
	t.Helper()
	tree := &tree{}
	root := os.DirFS("..")
	err := fs.WalkDir(root, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		if !strings.Contains(name, "/") {
			tree.top = append(tree.top, name)
		}
		if name == ".git" && !e.IsDir() {
			return nil // of a second working tree: it names a path
		}
		if e.IsDir() && (name == ".git" || name == "bin") {
			return fs.SkipDir
		}
		if !e.Type().IsRegular() || name == ".git" { // a file in a tree that is checked out beside another
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		return tree.add(name, string(text))
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.files) < 20 {
		t.Fatalf("the project has %d files only: the walk went wrong", len(tree.files))
	}
	return tree
}

// add takes a file into the tree.
func (t *tree) add(name, text string) error {
	s := &source{name: name, text: text}
	if strings.HasSuffix(name, ".go") {
		s.set = token.NewFileSet()
		var err error
		if s.syntax, err = parser.ParseFile(s.set, name, text, parser.ParseComments|parser.SkipObjectResolution); err != nil {
			return err
		}
		s.generated = ast.IsGenerated(s.syntax)
		for _, i := range s.syntax.Imports {
			lib, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, lib)
		}
	}
	t.files = append(t.files, s)
	return nil
}

func (t *tree) goFiles() []*source {
	return slices.DeleteFunc(slices.Clone(t.files), func(s *source) bool { return s.syntax == nil })
}

// packages returns the Go packages of the tree by directory.
func (t *tree) packages() []*pkg {
	byDir := map[string]*pkg{}
	var out []*pkg
	for _, s := range t.goFiles() {
		p := byDir[s.dir()]
		if p == nil {
			p = &pkg{dir: s.dir()}
			byDir[p.dir] = p
			out = append(out, p)
		}
		p.files = append(p.files, path.Base(s.name))
		if s.test() {
			continue
		}
		p.name = s.syntax.Name.Name
		for _, lib := range s.imports {
			if rest, ok := strings.CutPrefix(lib, module+"/"); ok {
				p.own = append(p.own, rest)
			}
		}
	}
	return out
}

// lines returns the number of lines of a text.
func lines(text string) int {
	n := strings.Count(text, "\n")
	if !strings.HasSuffix(text, "\n") && text != "" {
		n++
	}
	return n
}

// isText reports whether people read the file.
func (s *source) isText() bool {
	switch filepath.Ext(s.name) {
	case ".go", ".c", ".h", ".sh", ".py", ".md", ".toml", ".service", ".conf", ".mod", ".txtar", ".txt", ".yml", ".yaml", ".json":
		return true
	}
	return path.Base(s.name) == "Makefile" || strings.HasPrefix(s.name, ".ci/") || strings.HasPrefix(path.Base(s.name), ".")
}
