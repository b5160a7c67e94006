package vault

import (
	"sync"
	"syscall"
)

// madvDontDump keeps a page out of core dumps (madvise(2), Linux 3.4).
const madvDontDump = 16

// secret is a small buffer on pages of its own: locked into memory and kept out
// of core dumps as far as the system's limits allow, and overwritten by wipe.
// Several goroutines may use it while another wipes it.
type secret struct {
	mu     sync.RWMutex
	b      []byte // nil once it is wiped
	mapped []byte
}

func newSecret(n int) *secret {
	m, err := syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return &secret{b: make([]byte, n)} // no pages to spare: the heap must do
	}
	_ = syscall.Mlock(m)                 // best effort: RLIMIT_MEMLOCK may be 0
	_ = syscall.Madvise(m, madvDontDump) // best effort
	return &secret{b: m[:n], mapped: m}
}

// use calls f with the buffer, which f must not keep; the error is f's, or
// ErrForgotten once it is wiped.
func (s *secret) use(f func(b []byte) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.b == nil {
		return ErrForgotten
	}
	return f(s.b)
}

// wipe is safe to call twice.
func (s *secret) wipe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.b)
	s.b = nil
	if s.mapped != nil {
		_ = syscall.Munmap(s.mapped) // unlocks as well; fails only for an address that is not ours
		s.mapped = nil
	}
}
