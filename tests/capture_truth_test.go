package tests

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// truth is the list of sessions that a capture is known to hold.
type truth struct {
	head []string   // comments and the line of column names
	rows [][]string // in the order of columns
	at   map[string]int
}

func readTruth(t *testing.T, name string) *truth {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	tr := &truth{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		fields := strings.Split(line, "\t")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case tr.at == nil:
			tr.at = map[string]int{}
			for i, f := range fields {
				tr.at[f] = i
			}
			tr.head = append(tr.head, line)
		default:
			tr.rows = append(tr.rows, fields)
		}
	}
	return tr
}

func (tr *truth) addrs(t *testing.T, row []string) (a, b netip.Addr) {
	t.Helper()
	for i, into := range []*netip.Addr{&a, &b} {
		var err error
		if *into, err = netip.ParseAddr(row[tr.at[[]string{"addrA", "addrB"}[i]]]); err != nil {
			t.Fatal(err)
		}
	}
	return a, b
}

// text returns the list with other times.
func (tr *truth) text(t *testing.T, when func(ns int64) int64) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintln(&b, strings.Join(tr.head, "\n"))
	for _, row := range tr.rows {
		row = slices.Clone(row)
		for _, c := range []string{"first", "last"} {
			ns := when(nanoseconds(t, row[tr.at[c]]))
			row[tr.at[c]] = fmt.Sprintf("%d.%09d", ns/1e9, ns%1e9)
		}
		fmt.Fprintln(&b, strings.Join(row, "\t"))
	}
	return b.String()
}

// nanoseconds reads seconds with nine decimal places.
func nanoseconds(t *testing.T, s string) int64 {
	t.Helper()
	whole, part, _ := strings.Cut(s, ".")
	ns, err := strconv.ParseInt(whole+(part + "000000000")[:9], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

// localSide divides the addresses of a capture so that each session has
// exactly one local end, the initiator's wherever that is possible.
func (tr *truth) localSide(t *testing.T) map[netip.Addr]bool {
	t.Helper()
	peers, began := map[netip.Addr][]netip.Addr{}, map[netip.Addr]int{}
	var order []netip.Addr
	for _, row := range tr.rows {
		a, b := tr.addrs(t, row)
		peers[a], peers[b] = append(peers[a], b), append(peers[b], a)
		order = append(order, a, b)
		if row[tr.at["initiator"]] == "B" {
			a, b = b, a
		}
		began[a]++
		began[b]--
	}
	local := map[netip.Addr]bool{}
	for _, first := range order {
		if _, done := local[first]; done {
			continue
		}
		local[first] = true
		group := []netip.Addr{first}
		for i := 0; i < len(group); i++ {
			for _, p := range peers[group[i]] {
				if side, known := local[p]; !known {
					local[p] = !local[group[i]]
					group = append(group, p)
				} else if side == local[group[i]] {
					t.Fatalf("no division gives each session one local end: %s and %s", p, group[i])
				}
			}
		}
		n := 0
		for _, a := range group {
			if local[a] {
				n += began[a]
			}
		}
		for _, a := range group {
			local[a] = local[a] == (n >= 0)
		}
	}
	return local
}

// sender returns the address that the outermost IP header of a frame names as
// its source; false when it carries no IP.
func sender(data []byte) (netip.Addr, bool) {
	p := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.NoCopy)
	for _, l := range p.Layers() {
		var from []byte
		switch l := l.(type) {
		case *layers.IPv4:
			from = l.SrcIP
		case *layers.IPv6:
			from = l.SrcIP
		default:
			continue
		}
		a, ok := netip.AddrFromSlice(from)
		return a.Unmap(), ok
	}
	return netip.Addr{}, false
}
