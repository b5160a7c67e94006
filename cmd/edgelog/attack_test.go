package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/tests/office"
)

// besieged is an agent that has something of each kind to give away: sessions, access
// records, a register of subscribers, calls and mail; a hold; requests in each state.
type besieged struct {
	*house
	filed, approved, second, answered string // requests
	pack, proof                       string // a package that was handed over, a proof of the ledger
}

// What nobody may be told but by an approved run.
var recorded = []string{"Anna Berg", "Gade 1", "anna-7f3a", "10.0.0.2", "192.0.2.9", "4512345678", "4687654321", "b@example.net", "35123456789012"}

// What beside it only they may be told, with their key, who may read requests.
var inRequests = []string{"77-4711-K", "10.0.0.1", "a judge of Aarhus"}

// attackers are those who try. Who is nobody may reach the socket all the same.
type attacker struct {
	who  office.Person
	role config.Roles
}

func besiege(t *testing.T) (b *besieged, attackers []attacker) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("processes of other users are started by root")
	}
	b = &besieged{house: newHouse(t, sessionProfile...)}
	b.table.add(web(4001, "10.0.0.1"), web(4002, "10.0.0.1"), web(4001, "10.0.0.2"))
	b.loggedOn()
	b.must("subscribers", "import", b.write("people.csv", "id,name,address,valid_from\n"+subscriber+",Anna Berg,Gade 1,2020-01-01\n"))
	b.must("import", "calls", b.write("calls.csv", "start,end,from,to,subscriber,imei\n"+minutesAgo(20)+",,+4512345678,+4687654321,"+subscriber+",351234567890123\n"))
	b.must("import", "mail", b.write("mail.csv", "start,end,from,to\n"+minutesAgo(5)+",,anna-7f3a@example.net,b@example.net\n"))
	question := []string{"--from", hourAgo(), "--to", "now", "--address", "10.0.0.1", "--reference", "77-4711-K", "--delivery", "a judge of Aarhus"}
	b.answered = b.house.approved("lookup", question...)
	b.pack = filepath.Join(b.personal(b.office.Officer), "answer.age")
	b.mustAs(b.office.Officer, "request", "run", b.answered, "--identity", b.office.Officer.Identity, "--out", b.pack)
	b.approved, b.second = b.house.approved("lookup", question...), b.house.approved("lookup", question...)
	b.mustAs(b.office.Custodian, "hold", "add", "--request", b.approved, "--identity", b.office.Custodian.Identity)
	b.filed = strings.Fields(b.mustAs(b.office.Officer, append([]string{"request", "new", "access", "--authority", "Police", "--legal-basis", "law", "--recipient",
		b.office.Authority.Key}, question...)...))[1]
	b.proof = filepath.Join(b.dir, "proof.json")
	b.must("audit", "prove", "1", "--out", b.proof)
	for _, name := range []string{"detail", "people.csv", "calls.csv", "mail.csv", "proof.json"} { // it is the agent that is to refuse
		if err := os.Chmod(filepath.Join(b.dir, name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return b, []attacker{
		{b.stranger("nobody", 61099), 0}, {office.Person{Name: "root", Identity: b.stranger("root", 61098).Identity}, config.Operator},
		{b.office.Auditor, config.Auditor}, {b.office.Custodian, config.Custodian}, {b.office.Officer, config.Officer},
	}
}

// personal is a directory of a person's own.
func (b *besieged) personal(p office.Person) string {
	b.t.Helper()
	dir, err := os.MkdirTemp(filepath.Join(b.dir, "office"), "of")
	if err == nil {
		err = os.Chown(dir, int(p.UID), -1)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return dir
}

// readings counts the ledger's entries of readings, but for verifications.
func (h *house) readings() (n int) {
	h.t.Helper()
	list, err := h.rec.Ledger().Entries(h.t.Context(), 0, h.rec.Ledger().Size())
	if err != nil {
		h.t.Fatal(err)
	}
	for i := range list {
		if list[i].Kind == ledger.Intent && list[i].Fields["act"] != "verify" {
			n++
		}
	}
	return n
}

func number(t *testing.T, word string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(word, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
