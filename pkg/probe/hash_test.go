package probe

import (
	"crypto/rand"
	"encoding/binary"
	"testing"

	"github.com/edgelog/edgelog/pkg/session"
)

// fill places sessions the way the programs do, at once and without freeing,
// and returns how many found no slot and how many lie beyond their home.
func fill(t *table, keys []kernelKey) (refused, displaced int) {
	used := make([]uint8, t.mask+1)
	for i := range keys {
		hash := t.hashKey(&keys[i])
		placed := false
		for c := range maxChain {
			if b := t.chainBucket(hash, c); used[b] < slotsPerBucket {
				used[b]++
				placed = true
				if c > 0 {
					displaced++
				}
				break
			}
		}
		if !placed {
			refused++
		}
	}
	return refused, displaced
}

func seeded(buckets uint32) *table {
	t := &table{mask: uint64(buckets) - 1}
	for i := range t.seed {
		var b [8]byte
		_, _ = rand.Read(b[:])
		t.seed[i] = binary.NativeEndian.Uint64(b[:]) | 1
	}
	return t
}

// patterns are addresses and ports as networks and scanners use them.
var patterns = map[string]func(i uint32, k *kernelKey){
	"one address after another": func(i uint32, k *kernelKey) { k.AddrA[1] = word4(0x0a000000 + i) },
	"one port after another":    func(i uint32, k *kernelKey) { k.PortA, k.AddrA[1] = swap(uint16(i)), word4(0x0a000000+i>>16) },
	"a scan of addresses and ports": func(i uint32, k *kernelKey) {
		k.AddrA[1], k.PortB = word4(0x0a000001), swap(uint16(i%1024))
		k.AddrB[1] = word4(0xc6336400 + i/1024)
	},
	"IPv6 prefixes in order":     func(i uint32, k *kernelKey) { k.AddrA[0] = be64(0x20010db800000000 + uint64(i)<<8) },
	"IPv6 interface identifiers": func(i uint32, k *kernelKey) { k.AddrA[1] = be64(uint64(i)) },
	"one /24 to another": func(i uint32, k *kernelKey) {
		k.AddrA[1], k.AddrB[1] = word4(0x0a000000+i&0xff), word4(0xc6336400+i>>8)
	},
	"one IPv6 prefix to another": func(i uint32, k *kernelKey) {
		k.AddrA[1], k.AddrB[1] = be64(uint64(i&0xff)), be64(uint64(i>>8))
	},
	"every 256th address": func(i uint32, k *kernelKey) { k.AddrA[1] = word4(i << 8) },
}

func word4(a uint32) uint64 {
	var b session.Addr
	b[10], b[11] = 0xff, 0xff
	binary.BigEndian.PutUint32(b[12:], a)
	return binary.NativeEndian.Uint64(b[8:])
}

func be64(v uint64) uint64 {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], v)
	return binary.NativeEndian.Uint64(b[:])
}

func swap(p uint16) uint16 { return p<<8 | p>>8 }

// TestTheHashSpreadsWhatNetworksSend: at half load every session must find a
// slot, and few beyond their home, whatever pattern the addresses have.
func TestTheHashSpreadsWhatNetworksSend(t *testing.T) {
	const buckets = 1 << 13
	for name, set := range patterns {
		t.Run(name, func(t *testing.T) {
			keys := make([]kernelKey, buckets*slotsPerBucket/2)
			for i := range keys {
				keys[i] = kernelKey{AddrB: [2]uint64{0, word4(0xc0000209)}, PortB: 53, PortA: 5000, RealmProto: 17 << realmBits}
				set(uint32(i), &keys[i])
			}
			worst, most := 0, 0
			for range 200 {
				refused, displaced := fill(seeded(buckets), keys)
				worst, most = max(worst, refused), max(most, displaced)
			}
			// Placed at random 2.5 % lie beyond their home (Poisson, mean 4 of 8).
			if worst > 0 || most > len(keys)/16 {
				t.Errorf("refused %d, beyond their home %d of %d", worst, most, len(keys))
			}
		})
	}
}
