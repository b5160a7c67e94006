package main

import (
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/edgelog/edgelog/pkg/config"
)

// commandWalk has command lines of each command. {key} is the private key of who
// tries, {dir} a directory of theirs.
var commandWalk = map[string][]string{
	"init":        {"--dir {dir}/i"},
	"agent":       {"--config {config}"},
	"status":      {"", "--json", "--cost"},
	"coverage":    {"", "--json", "--from {from}"},
	"expire":      {"--dry-run", "--dry-run --json", "--certificates --json", "", "--clock-is-right", "--verify {proof}"},
	"keys":        {"list", "list --json", "rotate --identity {key}"},
	"doctor":      {"--config {config}"},
	"accounting":  {"import {house}/detail"},
	"subscribers": {"import {house}/people.csv", "import {house}/edgelog.toml"},
	"request": {
		"list", "list --json", "list --identity {key}", "list --identity {key} --json", "show {filed} --identity {key}", "show {approved} --identity {key} --json",
		"show -1 --identity {key}", "show 99999999999999999999 --identity {key}", "show ../{approved} --identity {key}", "show {approved} --identity {theirs}",
		"new lookup {question} --recipient {public}", "emergency lookup {question} --recipient {public} --reason fire",
		"run {filed} --identity {key} --out {dir}/a", "run {answered} --identity {key} --out {dir}/b", "run {approved} --identity {theirs} --out {dir}/c",
		"approve {approved} --yes --identity {key}", "approve {answered} --yes --identity {key}", "approve {filed} --yes --identity {theirs}",
		"refuse {approved} --identity {key} --reason x", "refuse {approved} --identity {theirs} --reason x", "withdraw {answered} --identity {key} --reason x",
		"withdraw {approved} --identity {theirs} --reason x",
	},
	"lookup": {
		"--subscriber anna-7f3a@example.net --from {from} --to now", "--request {filed} --identity {key}", "--request {answered} --identity {key}",
		"--request {approved} --identity {theirs}", "--request {approved} --identity {dir}/none",
	},
	"who":            {"10.0.0.1:4001 --at now", "--request {approved} --identity {key}"},
	"access":         {"--subscriber anna-7f3a@example.net --from {from} --to now", "--request {filed} --identity {key}"},
	"communications": {"--number 112 --from {from} --to now", "--request {approved} --identity {key}"},
	"import":         {"calls {house}/calls.csv", "mail {house}/mail.csv", "calls {house}/edgelog.toml"},
	"hold":           {"list", "list --json", "add --request {filed} --identity {key}", "add --request {approved} --identity {theirs}", "release 4711"},
	"verify":         {"", "--json", "--identity {key}", "--store {house}/data/store", "--store {house}/data/store --identity {key} --json"},
	"report":         {"art10 --year {year}", "art10 --year {year} --json", "volume", "volume --json"},
	"breach":         {"form", "form --number 1 --identity {key}", "list", "list --identity {key}", "show 1 --identity {key}", "export 1 --identity {key} --format json", "add --file {proof}"},
	"audit": {
		"verify", "verify --json", "list", "list --json", "list --identity {key} --json", "list --identity {theirs} --json", "prove 1", "prove -1", "check-proof {proof}", "export --out {dir}/led",
		"sample --quarter {quarter} --percent 100", "sample --quarter {quarter} --percent 100 --identity {key} --csv", "witness", "witness --mail", "key",
		"list --ledger {house}/data/ledger --public-key {ledger} --identity {key}",
	},
	"package": {"verify {pack} --identity {key}", "show {pack} --identity {key}", "show {pack} --html --identity {theirs}"},
	"backup":  {"{dir}/backup", "--keys {dir}/wrapped"},
	"restore": {"{dir}/backup --to {dir}/store"},
	"plan":    {"--subscribers 10"},
	"replay":  {"{house}/people.csv"},
	"dhcp":    {"report"},
	"version": {""},
}

// wordsOf returns the words that a command takes next, as its help has them.
func wordsOf(c *cli.Command) (words []string) {
	for _, s := range c.Subcommands {
		words = append(words, s.Name)
	}
	for _, w := range strings.Split(c.ArgsUsage, "|") {
		if w, _, _ = strings.Cut(w, " "); regexp.MustCompile(`^[a-z][a-z0-9-]+$`).MatchString(w) {
			words = append(words, w)
		}
	}
	return words
}

func TestTheWalkHasEveryCommandAndEveryWordOfIt(t *testing.T) {
	left := maps.Clone(commandWalk)
	for _, c := range commands() {
		rows, ok := left[c.Name]
		if delete(left, c.Name); !ok {
			t.Errorf("nobody tries what %q gives away: add it to commandWalk", c.Name)
		}
		for _, w := range wordsOf(c) {
			if !slices.ContainsFunc(rows, func(row string) bool { return row == w || strings.HasPrefix(row, w+" ") }) {
				t.Errorf("nobody tries what \"%s %s\" gives away: add it to commandWalk", c.Name, w)
			}
		}
	}
	if len(left) > 0 {
		t.Errorf("there are no such commands: %v", slices.Sorted(maps.Keys(left)))
	}
}

// line makes a command line of a row.
func (b *besieged) line(c *cli.Command, row string, a *attacker, dir, theirs string) []string {
	now := time.Now().UTC()
	args := []string{c.Name}
	for _, word := range strings.Fields(row) {
		if word == "{question}" {
			args = append(args, "--address", "10.0.0.1", "--from", hourAgo(), "--to", "now", "--reference", "x", "--authority", "y", "--legal-basis", "z")
			continue
		}
		args = append(args, strings.NewReplacer("{key}", a.who.Identity, "{dir}", dir, "{theirs}", theirs, "{house}", b.dir, "{config}", b.config, "{from}", hourAgo(),
			"{filed}", b.filed, "{approved}", b.approved, "{answered}", b.answered, "{public}", b.office.Authority.Key, "{pack}", b.pack, "{proof}", b.proof,
			"{ledger}", b.rec.Ledger().VerifierKey(), "{year}", now.Format("2006"), "{quarter}", now.Format("2006")+"Q"+string(rune('1'+(now.Month()-1)/3))).Replace(word))
	}
	return args
}

func TestNoCommandGivesAnythingAwayToAnyRole(t *testing.T) {
	b, attackers := besiege(t)
	before := b.readings()
	readsRequests := config.Officer | config.Custodian | config.Auditor
	for i := range attackers {
		a := &attackers[i]
		theirs := b.office.Custodian.Identity // which root can read, and nobody else
		if a.role == config.Custodian {
			theirs = b.office.Officer.Identity
		}
		dir := b.personal(a.who)
		for _, c := range commands() {
			for _, row := range commandWalk[c.Name] {
				stolen := a.role == config.Operator && strings.Contains(row, "{theirs}") && c.Name == "audit"
				if stolen {
					continue // who has a custodian's key opens what is sealed to it, wherever it lies
				}
				talks := !strings.Contains(row, "--ledger ") && slices.ContainsFunc(c.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), "socket") })
				out, errs, _ := b.process(a.who, talks, b.line(c, row, a, dir, theirs)...)
				words := recorded
				if !a.role.Has(readsRequests) || !strings.Contains(row, "--identity {key}") {
					words = slices.Concat(recorded, inRequests)
				}
				if found := leaks(unquoted(out+errs, row), words); len(found) > 0 {
					t.Errorf("%s, edgelog %s %s: gives away %q\n%s%s", a.who.Name, c.Name, row, found, out, errs)
				}
			}
		}
	}
	if n := b.readings() - before; n != 0 {
		t.Errorf("%d readings began", n)
	}
	b.theRightOnesAreAnswered()
}

// unquoted is an output without what the row itself asked for.
func unquoted(text, row string) string {
	for _, word := range strings.Fields(row) {
		if len(leaks(word, slices.Concat(recorded, inRequests))) > 0 {
			text = strings.ReplaceAll(text, word, "")
		}
	}
	return text
}

// theRightOnesAreAnswered demands that all that was tried has changed nothing, and
// that what was looked for is what an answer has.
func (b *besieged) theRightOnesAreAnswered() {
	b.t.Helper()
	olga := b.office.Officer
	out := b.mustAs(olga, "lookup", "--request", b.second, "--identity", olga.Identity)
	demand(b.t, out, "10.0.0.1:4001", "192.0.2.9:443", "anna-7f3a@example.net", "Anna Berg", "Gade 1")
	if strings.Contains(out, "10.0.0.2") {
		b.t.Errorf("another's session is in\n%s", out)
	}
	out = filepath.Join(b.personal(olga), "answer")
	b.mustAs(olga, "request", "run", b.approved, "--identity", olga.Identity, "--out", out)
	carl := b.office.Custodian
	demand(b.t, b.mustAs(carl, "request", "approve", b.filed, "--yes", "--identity", carl.Identity), "is approved")
}
