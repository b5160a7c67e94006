package probe

import (
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket"
)

func rest(b []byte) gopacket.SerializableLayer { return gopacket.Payload(b) }

// dump returns every byte of a map that user space can read.
func dump(t *testing.T, m *ebpf.Map) (all []byte) {
	t.Helper()
	switch m.Type() {
	case ebpf.RingBuf:
		return nil // events hold no more than a slot's number
	case ebpf.PerCPUArray:
		for i := range m.MaxEntries() {
			var v [][]byte
			if err := m.Lookup(i, &v); err != nil {
				t.Fatal(err)
			}
			for _, b := range v {
				all = append(all, b...)
			}
		}
		return all
	}
	var k, v []byte
	it := m.Iterate()
	for it.Next(&k, &v) {
		all = append(append(all, k...), v...)
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func sorted(s []string) []string {
	slices.Sort(s)
	return s
}
