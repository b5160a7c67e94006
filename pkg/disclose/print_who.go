package disclose

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// PrintWho writes an answer to who held an address in one of the Formats. With
// json the first line is the verdict, then comes a line for each candidate, and
// the last one holds the summary; with csv the verdict and the summary are left
// to the caller (see Head and Summary.Lines).
func PrintWho(w io.Writer, a *WhoAnswer, format string) error {
	return printAs(w, a, format)
}

// Head returns the verdict and what was asked, as lines for people.
func (a *WhoAnswer) Head() []string {
	first := strings.ToUpper(string(a.Verdict))
	if a.Persons == 1 && a.Candidates[0].Subscriber != "" {
		first += ": " + printable(a.Candidates[0].Subscriber)
	}
	return []string{
		first + ": " + a.Reason,
		fmt.Sprintf("asked: who held %s at %s ± %v", a.target(), session.FormatTime(a.Query.At), time.Duration(a.Query.Error)),
	}
}

func (a *WhoAnswer) target() string {
	if a.Query.Port == nil {
		return a.Query.Address.String()
	}
	return netip.AddrPortFrom(a.Query.Address, *a.Query.Port).String()
}

// shownSessions is how many sessions of a candidate the table shows.
const shownSessions = 5

func (a *WhoAnswer) table(w io.Writer) error {
	lines := a.Head()
	for i := range a.Candidates {
		c := &a.Candidates[i]
		lines = append(lines, "", fmt.Sprintf("%d. %s", i+1, printable(orUnknown(c.Subscriber))))
		add := func(what, text string) {
			if text != "" {
				lines = append(lines, fmt.Sprintf("   %-10s %s", what, printable(text)))
			}
		}
		if n := c.Name; n != nil {
			add("name", n.Name)
			add("address", n.Address)
			add("services", n.Services)
			add("register", "so "+span(n.From, n.To, false, false))
		}
		last := &c.Links[len(c.Links)-1]
		add("identity", c.first(func(b *session.Binding) string { return b.Identity }))
		add("line", c.first(func(b *session.Binding) string { return b.Line }))
		add("equipment", c.first(func(b *session.Binding) string { return b.Equipment }))
		add("place", c.first(func(b *session.Binding) string { return b.Place }))
		add("held", span(c.From, c.To, last.Certainty&session.FromInferred != 0, last.Certainty&session.ToInferred != 0))
		for j := range c.Links {
			add(map[bool]string{true: "how"}[j == 0], c.link(j))
		}
		for j := range c.Sessions {
			if j == shownSessions {
				add("", fmt.Sprintf("and %s more", count(len(c.Sessions)-j, "session")))
				break
			}
			add(map[bool]string{true: "session"}[j == 0], sessionText(&c.Sessions[j]))
		}
		if len(c.Sessions) == 0 {
			add("session", "none recorded of this address and port at that time")
		}
		for j, d := range c.Doubts {
			add(map[bool]string{true: "doubt"}[j == 0], d)
		}
	}
	if a.Left > 0 {
		lines = append(lines, "", fmt.Sprintf("and %d more; give a source port, or a smaller --error", a.Left))
	}
	lines = append(lines, "")
	lines = append(lines, a.Summary.about(count(a.Summary.Records, "candidate"))...)
	_, err := fmt.Fprintln(w, strings.Join(lines, "\n"))
	return err
}

// first returns the first text that a link has, from the subscriber's end.
func (c *Candidate) first(of func(*session.Binding) string) string {
	for i := len(c.Links) - 1; i >= 0; i-- {
		if s := of(&c.Links[i]); s != "" {
			return s
		}
	}
	return ""
}

// link says what link i leads to, and who said so.
func (c *Candidate) link(i int) string {
	b := &c.Links[i]
	to := "subscriber"
	if i+1 < len(c.Links) {
		to = holderText(b)
	}
	text := fmt.Sprintf("%s -> %s: %s", holdText(b), to, b.Source)
	if b.SourceName != "" {
		text += " " + b.SourceName
	}
	if b.SourceKey == bySession {
		text = fmt.Sprintf("%s -> %s: session record", holdText(b), to)
	}
	return text
}

// holderText names what a link leads to.
func holderText(b *session.Binding) string {
	if b.Via.IsValid() && session.IsEquipment(b.Via) {
		return "equipment " + equipmentText(b.Via)
	}
	if b.Via.IsValid() {
		return b.Via.String()
	}
	return "rule"
}

// holdText names what is held: an address, a prefix, or a range of ports.
func holdText(b *session.Binding) string {
	text := b.Prefix.String()
	switch {
	case b.Prefix.IsValid() && session.IsEquipment(b.Prefix.Addr()) && b.Prefix.Bits() == 128:
		return "equipment " + equipmentText(b.Prefix.Addr())
	case b.Prefix.IsSingleIP():
		text = b.Prefix.Addr().String()
	}
	if b.FirstPort > 0 || b.LastPort < 65535 {
		text += fmt.Sprintf(" ports %d-%d", b.FirstPort, b.LastPort)
	}
	return text
}

// span prints when something was so.
func span(from, to int64, fromInferred, toInferred bool) string {
	begin, end := "from the beginning", "still so"
	if from > 0 {
		begin = session.FormatTime(from)
	}
	if fromInferred {
		begin += " (or earlier)"
	}
	if to != session.Forever {
		end = session.FormatTime(to)
		if toInferred {
			end += " (or earlier)"
		}
	}
	return begin + " … " + end
}

func sessionText(s *session.Session) string {
	text := fmt.Sprintf("%s … %s %s %s -> %s", session.FormatTime(s.Start), time.Unix(0, s.End).UTC().Truncate(time.Millisecond).Format("15:04:05.000Z"),
		session.ProtoName(s.Proto), s.Endpoint(session.SideInitiator), s.Endpoint(session.SideResponder))
	if s.Inside != (session.Addr{}) {
		text += " inside " + s.Inside.String()
	}
	return text
}

// known is the word for an end that was reported or not.
func known(t int64, inferred bool) string {
	switch {
	case t == session.Forever:
		return "none"
	case inferred:
		return "inferred"
	}
	return "reported"
}

// jsonLink is a binding in an answer.
type jsonLink struct {
	Prefix     string `json:"prefix"`
	FirstPort  uint16 `json:"first_port"`
	LastPort   uint16 `json:"last_port"`
	Via        string `json:"via,omitempty"`
	Rule       string `json:"rule,omitempty"`
	Subscriber string `json:"subscriber,omitempty"`
	Identity   string `json:"identity,omitempty"`
	Line       string `json:"line,omitempty"`
	Equipment  string `json:"equipment,omitempty"`
	Place      string `json:"place,omitempty"`
	From       string `json:"from"`
	FromKnown  string `json:"from_known"`   // reported, inferred
	To         string `json:"to,omitempty"` // left out while in force
	ToKnown    string `json:"to_known"`     // reported, inferred, none
	Source     string `json:"source"`
	SourceName string `json:"source_name,omitempty"`
	SourceKey  string `json:"source_key,omitempty"`
}

func linkJSON(b *session.Binding) jsonLink {
	l := jsonLink{
		Prefix: b.Prefix.String(), FirstPort: b.FirstPort, LastPort: b.LastPort, Rule: b.Rule, Subscriber: b.Subscriber, Identity: b.Identity,
		Line: b.Line, Equipment: b.Equipment, Place: b.Place, From: session.FormatTime(b.From), FromKnown: known(b.From, b.Certainty&session.FromInferred != 0),
		ToKnown: known(b.To, b.Certainty&session.ToInferred != 0), Source: b.Source.String(), SourceName: b.SourceName, SourceKey: b.SourceKey,
	}
	if b.Via.IsValid() {
		l.Via = b.Via.String()
	}
	if b.To != session.Forever {
		l.To = session.FormatTime(b.To)
	}
	return l
}

// jsonName is what the register says, in an answer.
type jsonName struct {
	Subscriber string `json:"subscriber"`
	Name       string `json:"name"`
	Address    string `json:"address"`
	Services   string `json:"services,omitempty"`
	From       string `json:"from,omitempty"`
	To         string `json:"to,omitempty"`
}

func nameJSON(n *Name) *jsonName {
	if n == nil {
		return nil
	}
	out := &jsonName{Subscriber: n.Subscriber, Name: n.Name, Address: n.Address, Services: n.Services}
	if n.From > 0 {
		out.From = session.FormatTime(n.From)
	}
	if n.To != session.Forever {
		out.To = session.FormatTime(n.To)
	}
	return out
}

func (a *WhoAnswer) json(w io.Writer) error {
	enc := json.NewEncoder(w)
	head := struct {
		Verdict    Verdict `json:"verdict"`
		Reason     string  `json:"reason"`
		Address    string  `json:"address"`
		Port       *uint16 `json:"port,omitempty"`
		At         string  `json:"at"`
		Error      float64 `json:"error_s"`
		Persons    int     `json:"persons"`
		SharedBy   int     `json:"shared_by,omitempty"`
		Candidates int     `json:"candidates"`
		Sessions   int     `json:"sessions"`
	}{
		a.Verdict, a.Reason, a.Query.Address.String(), a.Query.Port, session.FormatTime(a.Query.At), time.Duration(a.Query.Error).Seconds(),
		a.Persons, a.Shared, len(a.Candidates) + a.Left, a.Proofs,
	}
	if err := enc.Encode(&head); err != nil {
		return err
	}
	for i := range a.Candidates {
		if err := enc.Encode(a.Candidates[i].object()); err != nil {
			return err
		}
	}
	return enc.Encode(struct {
		Summary *Summary `json:"summary"`
	}{&a.Summary})
}

func (c *Candidate) object() any {
	out := struct {
		Subscriber string            `json:"subscriber"`
		Register   *jsonName         `json:"register,omitempty"`
		From       string            `json:"from"`
		To         string            `json:"to,omitempty"`
		Chain      []jsonLink        `json:"chain"`
		Sessions   []json.RawMessage `json:"sessions,omitempty"`
		Doubts     []string          `json:"doubts,omitempty"`
	}{Subscriber: c.Subscriber, Register: nameJSON(c.Name), From: session.FormatTime(c.From), Doubts: c.Doubts}
	if c.To != session.Forever {
		out.To = session.FormatTime(c.To)
	}
	for i := range c.Links {
		out.Chain = append(out.Chain, linkJSON(&c.Links[i]))
	}
	for i := range c.Sessions {
		out.Sessions = append(out.Sessions, c.Sessions[i].AppendJSON(nil))
	}
	return &out
}

var whoHeader = []string{
	"verdict", "subscriber", "name", "address", "identity", "line", "equipment", "place", "from", "from_known", "to", "to_known",
	"held", "first_port", "last_port", "source", "source_name", "chain", "sessions", "doubts",
}

func (a *WhoAnswer) csv(w io.Writer) error {
	cw := csv.NewWriter(w)
	if err := cw.Write(whoHeader); err != nil {
		return err
	}
	for i := range a.Candidates {
		if err := cw.Write(a.row(i)); err != nil {
			return err
		}
	}
	cw.Flush()
	return cw.Error()
}

// row returns the cells of whoHeader.
func (a *WhoAnswer) row(i int) []string {
	c := &a.Candidates[i]
	n := c.Name
	if n == nil {
		n = &Name{}
	}
	l, last := linkJSON(&c.Links[0]), linkJSON(&c.Links[len(c.Links)-1])
	to := ""
	if c.To != session.Forever {
		to = session.FormatTime(c.To)
	}
	var chain []string
	for j := range c.Links {
		chain = append(chain, c.link(j))
	}
	return cells([]string{
		string(a.Verdict), c.Subscriber, n.Name, n.Address, c.first(func(b *session.Binding) string { return b.Identity }),
		c.first(func(b *session.Binding) string { return b.Line }), c.first(func(b *session.Binding) string { return b.Equipment }),
		c.first(func(b *session.Binding) string { return b.Place }), session.FormatTime(c.From), last.FromKnown, to, last.ToKnown,
		l.Prefix, strconv.Itoa(int(l.FirstPort)), strconv.Itoa(int(l.LastPort)), l.Source, l.SourceName,
		strings.Join(chain, "; "), strconv.Itoa(len(c.Sessions)), strings.Join(c.Doubts, "; "),
	})
}
