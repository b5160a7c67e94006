package probe

// waiting is a slot in a queue, with the state it had and the time it came.
type waiting struct {
	slot, state uint32
	since       uint64
}

// settled is a slot that was marked STORED: looked at once more after the
// grace, because a program may have been about to write when it was marked.
type settled struct {
	ref
	since uint64
}

// queue is first in, first out; all entries of one wait equally long, so that
// the first is always due first.
type queue[T any] struct {
	entries []T
	head    int
}

func (q *queue[T]) push(w T) { q.entries = append(q.entries, w) }

func (q *queue[T]) len() int { return len(q.entries) - q.head }

// drop takes the first n entries out.
func (q *queue[T]) drop(n int) {
	q.head += n
	switch {
	case q.head == len(q.entries):
		q.entries, q.head = q.entries[:0], 0
	case q.head > 1<<12 && q.head*2 > len(q.entries):
		n := copy(q.entries, q.entries[q.head:])
		q.entries, q.head = q.entries[:n], 0
	}
}

// due takes the first entry if it came at or before the given time.
func due(q *queue[waiting], until uint64) (waiting, bool) {
	if q.len() == 0 {
		return waiting{}, false
	}
	w := q.entries[q.head]
	if int64(w.since-until) > 0 {
		return waiting{}, false
	}
	q.drop(1)
	return w, true
}
