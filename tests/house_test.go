package tests

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The rooms of pkg/, by floor. A room may import rooms of lower floors and its
// own sub-packages' parent; see the rules below for what is narrower.
var floors = map[string]int{
	"session": 1, "vault": 1, "ledger": 1, "config": 1, "capture": 1, "measure": 1,
	"probe": 2, "identity": 2, "block": 2, "records": 2,
	"store":    3,
	"recorder": 4, "disclose": 4,
	"metrics": 5,
	"cmd":     6,
}

// mayImport names the rooms of the same floor that one may use all the same.
var mayImport = map[string][]string{
	"config": {"session"}, // profiles are checked where they are read
}

// ruleOwn forbids a room the use of another, however many packages lie
// between.
type ruleOwn struct {
	room, other string
	reason      string
}

var ownRules = []ruleOwn{
	{"session", "*", "the words stand alone: every other room can use them, and a reader can start there"},
	{"vault", "*", "a reviewer reads the keys as a whole, without the rest of the house"},
	{"ledger", "*", "evidence about the house is not kept by means of the house"},
	{"measure", "*", "what counts does not know what it counts"},
	{"capture", "*", "a file of frames is read without knowing what a session is"},
	{"probe", "store", "what is seen in the kernel does not depend on how it is kept"},
	{"probe", "identity", "the kernel's side never learns whose a session is"},
	{"identity", "store", "bindings are joined in memory; durability is handed in"},
	{"identity", "probe", "whose an address was does not depend on how packets are seen"},
	{"block", "vault", "a block is bytes; who seals them is not its business"},
	{"store", "probe", "the store outlives the kernel that filled it"},
	{"store", "identity", "the store keeps what it is given and joins nothing"},
	{"recorder", "disclose", "the process that records must not be able to answer"},
	{"disclose", "probe", "an answer comes from the sealed store, never from the wire"},
	{"metrics", "disclose", "a number for everybody comes from the status, never from what is recorded"},
	{"disclose", "recorder", "the gate must not be a way around the recorder's order of work"},
}

// narrow names what alone a package below a room may import of this house, where
// that is less than its room may.
var narrow = []struct {
	dir    string
	only   []string
	reason string
}{
	{
		"pkg/disclose/delivery", []string{"pkg/disclose", "pkg/session", "pkg/ledger"},
		"a package is made of an answer and checked on any machine: it knows neither store nor configuration, nor the keys of either",
	},
}

// ruleOthers keeps a library, or a part of the standard library, in few rooms.
// A prefix ends at a path element.
type ruleOthers struct {
	library string
	only    []string // directories, with all below; test files count too
	reason  string
}

var otherRules = []ruleOthers{
	{"github.com/dgraph-io/badger", []string{"pkg/store"}, "Badger's traps are known in one place, and its errors do not travel"},
	{"github.com/cilium/ebpf", []string{"pkg/probe", "tests"}, "generated types and kernel handles do not leave the probe"},
	{"github.com/vishvananda/netlink", []string{"pkg/probe", "tests"}, "links are watched and changed in one place"},
	{"github.com/vishvananda/netns", []string{"pkg/probe", "tests"}, "a thread's network namespace is changed in one place"},
	{"github.com/urfave/cli", []string{"cmd/edgelog"}, "rooms take Options, not flags"},
	{"github.com/fsnotify/fsnotify", []string{"pkg/identity/dhcp"}, "files of other programs are followed in one place"},
	{"layeh.com/radius", []string{"pkg/identity/radius"}, "RADIUS is one source of bindings among several"},
	{"filippo.io/age", []string{"pkg/vault", "cmd/edgelog", "pkg/disclose", "tests"}, "private and public keys are handled where a reviewer looks for them"},
	{"github.com/prometheus/client_golang", []string{"pkg/metrics", "tests"}, "rooms count for themselves; how counters are shown is decided in one place"},
	{"golang.org/x/mod/sumdb", []string{"pkg/ledger", "pkg/disclose", "tests"}, "tree and signatures belong to the evidence"},
}

// denied names what a room may not import of the standard library.
var denied = []struct{ room, library, reason string }{
	{"block", "os", "a block is encoded in memory, on any machine, with nothing to write"},
	{"session", "os", "the words are pure"},
	{"session", "log/slog", "the words are pure"},
	{"session", "net", "the words are pure; addresses are net/netip"},
}

// topLevel is all that the top of the tree may hold.
var topLevel = []string{
	"bpf", "cmd", "pkg", "scripts", "tests", "go.mod", "go.sum", "Makefile", "README.md", "LICENSE",
	".ci", ".git", ".gitignore", ".gitattributes", "staticcheck.conf",
	"bin", // built, not committed
}

// badNames say nothing about what a package holds.
var badNames = []string{"util", "utils", "common", "helper", "helpers", "model", "models", "types", "misc", "base", "lib"}

// longFunctions may have up to longest lines, each for a reason.
var longFunctions = map[string]string{}

// longFiles may be longer than fileLines, each for a reason.
var longFiles = map[string]string{}

// goroutineRooms are where goroutines are started, each with the line that ends
// it.
var goroutineRooms = map[string]string{
	"pkg/probe":           "reads the ring and the table while the agent does other work",
	"pkg/recorder":        "wires the agent",
	"pkg/identity/radius": "answers a bounded number of clients at a time",
	"pkg/identity/dhcp":   "follows the files of several servers, and answers a bounded number of reports at a time",
	"cmd/edgelog":         "waits for signals",
	"tests":               "is not the product",
}

func TestRoomsImportOnlyWhatTheHouseAllows(t *testing.T) {
	report(t, importFaults(loadTree(t)))
}

func TestLibrariesStayInTheirRooms(t *testing.T) {
	report(t, libraryFaults(loadTree(t)))
}

func TestTheTopLevelAndTheNamesAreTheHouses(t *testing.T) {
	tree := loadTree(t)
	report(t, nameFaults(tree))
	for name, reason := range longFunctions {
		if reason == "" {
			t.Errorf("the long function %s has no reason", name)
		}
	}
}

func TestFilesAndFunctionsAreShortEnoughToRead(t *testing.T) {
	report(t, sizeFaults(loadTree(t)))
}

func TestGoCodeKeepsTheHabits(t *testing.T) {
	report(t, habitFaults(loadTree(t)))
}

func TestTheTextSpeaksOnlyOfTheProject(t *testing.T) {
	report(t, wordFaults(loadTree(t)))
}

func TestEveryKernelSourceNamesItsLicence(t *testing.T) {
	report(t, licenceFaults(loadTree(t)))
}

// report fails the test once for each fault, in order.
func report(t *testing.T, faults []string) {
	t.Helper()
	slices.Sort(faults)
	for _, f := range slices.Compact(faults) {
		t.Error(f)
	}
}

// importFaults checks the floors and ownRules.
func importFaults(tree *tree) []string {
	var out []string
	uses := map[string]map[string]bool{} // room → rooms, through other packages too
	for _, p := range tree.packages() {
		from := room(p.dir)
		if _, known := floors[from]; !known && from != "tests" && from != "scripts" {
			out = append(out, p.dir+": there is no such room; see the floors in tests/house_test.go")
			continue
		}
		for _, to := range p.own {
			other := room(to)
			if uses[from] == nil {
				uses[from] = map[string]bool{}
			}
			if other == from || from == "tests" || from == "scripts" {
				continue
			}
			uses[from][other] = true
			if floors[other] >= floors[from] && !slices.Contains(mayImport[from], other) {
				out = append(out, p.dir+" imports "+to+": rooms import lower floors only, so that a packet walks one way")
			}
		}
	}
	for _, n := range narrow {
		for _, p := range tree.packages() {
			for _, to := range p.own {
				if p.dir == n.dir && !slices.Contains(n.only, to) {
					out = append(out, p.dir+" imports "+to+": "+n.reason)
				}
			}
		}
	}
	for _, r := range ownRules {
		for _, other := range slices.Sorted(maps.Keys(reach(uses, r.room))) {
			if r.other == other || r.other == "*" {
				out = append(out, "pkg/"+r.room+" uses pkg/"+other+": "+r.reason)
			}
		}
	}
	return out
}

// reach returns the rooms that one uses, directly or through others.
func reach(uses map[string]map[string]bool, from string) map[string]bool {
	seen := map[string]bool{}
	var walk func(string)
	walk = func(r string) {
		for next := range uses[r] {
			if !seen[next] {
				seen[next] = true
				walk(next)
			}
		}
	}
	walk(from)
	return seen
}

// room returns the room that a directory is in: "probe" for pkg/probe and all
// below, "cmd" for each command.
func room(dir string) string {
	parts := strings.Split(dir, "/")
	if parts[0] == "pkg" && len(parts) > 1 {
		return parts[1]
	}
	return parts[0]
}

// libraryFaults checks otherRules and denied.
func libraryFaults(tree *tree) []string {
	var out []string
	for _, f := range tree.goFiles() {
		for _, lib := range f.imports {
			for _, r := range otherRules {
				if under(lib, r.library) && !slices.ContainsFunc(r.only, func(d string) bool { return under(f.dir(), d) }) {
					out = append(out, f.name+" imports "+lib+": only "+strings.Join(r.only, ", ")+" may; "+r.reason)
				}
			}
			for _, d := range denied {
				if room(f.dir()) == d.room && lib == d.library && !f.test() {
					out = append(out, f.name+" imports "+lib+": "+d.reason)
				}
			}
		}
	}
	return out
}

// under reports whether path is prefix, or below it, or a version of it.
func under(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

// nameFaults checks what the tree is called.
func nameFaults(tree *tree) []string {
	var out []string
	for _, name := range tree.top {
		if !slices.Contains(topLevel, name) {
			out = append(out, name+": the top level is fixed; find its room in pkg, tests or scripts")
		}
	}
	for _, p := range tree.packages() {
		if slices.Contains(badNames, filepath.Base(p.dir)) || slices.Contains(badNames, p.name) {
			out = append(out, p.dir+": the name does not say what lives there")
		}
		if strings.HasPrefix(p.dir, "pkg/") && !slices.Contains(p.files, "doc.go") {
			out = append(out, p.dir+": it has no doc.go that tells the life of its main thing")
		}
	}
	return out
}
