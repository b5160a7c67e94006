package store

import (
	"crypto/sha256"
)

func runOf(c *contents) Run {
	r := Run{Day: c.day, Number: c.number, Blocks: len(c.entries), Hash: sha256.Sum256(c.encode())}
	for i := range c.entries {
		r.Rows += uint64(c.entries[i].rows)
		r.Bytes += uint64(c.entries[i].size)
	}
	return r
}
