package radius

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/edgelog/edgelog/pkg/identity"
)

// maxPacket is a little more than the longest packet (RFC 2865 §3: 4096 bytes),
// so that what is longer is seen to be.
const maxPacket = 4096 + 1

// link is the way that an answer goes. Its method is called by the workers.
type link interface {
	// reply sends the answer to j, or says why not. It does not wait, and keeps
	// nothing of answer.
	reply(j *job, answer []byte) error
}

// job is a request on its way.
type job struct {
	buf    [maxPacket]byte
	n      int
	from   netip.AddrPort
	at     time.Time
	client *client
	link   link

	parsed parsed
	key    requestKey
	req    request
	events []identity.Event
	out    []byte // room for the answer
	tried  bool   // it is in the cache and waits for its answer
}

// respond makes the answer. It lies in the job: who keeps it takes a copy.
func (j *job) respond() []byte {
	j.out = appendResponse(j.out[:0], j.data(), &j.req, j.client.Secret)
	return j.out
}

func (j *job) data() []byte { return j.buf[:j.n] }

// batch is how many waiting requests a worker takes at once.
const batch = 256

func (s *Server) free(j *job) {
	clear(j.events)
	j.client, j.req, j.link, j.tried, j.events = nil, request{}, nil, false, j.events[:0]
	s.jobs.Put(j)
}

// drop counts j and is done with it.
func (s *Server) drop(j *job, why reason) {
	if j.tried {
		s.cache.failed(j.key)
	}
	s.count.dropped[why].Add(1)
	s.count.inFlight.Add(-1)
	s.free(j)
}

// worker is what one worker works with.
type worker struct {
	jobs   []*job
	events []identity.Event
}

// work takes what waits, checks it, has the book keep it, and answers.
func (s *Server) work(ctx context.Context, queue <-chan *job) {
	var w worker
	for j := range queue {
		w.jobs = w.jobs[:0]
		s.check(&w, j)
	fill:
		for len(w.jobs) < batch {
			select {
			case j, ok := <-queue:
				if !ok {
					break fill
				}
				s.check(&w, j)
			default:
				break fill
			}
		}
		s.keep(ctx, &w)
		clear(w.jobs)
	}
}

// check brings one request to the point where only the book is missing, and
// adds it to the worker's; or it drops or answers it. A job without events has
// nothing to be kept.
func (s *Server) check(w *worker, j *job) {
	attrs, ok := j.parsed.parse(j.data())
	req, why := request{attrs: attrs}, dropAttributes
	if ok {
		req, why, ok = authentic(j.data(), attrs, j.client)
	}
	if !ok {
		if why == dropAuthenticator || why == dropMessageAuth {
			j.client.badAuthenticator.Add(1)
			s.wrongSecret(j.at, j.client)
		}
		if st, isStream := j.link.(*stream); isStream {
			st.end(endProtocol) // RFC 6613 §2.6.4: nobody knows what the rest of the stream is
		}
		s.drop(j, why)
		return
	}
	j.req = req
	if j.buf[0] == codeStatusServer {
		s.send(j, j.respond(), false)
		return
	}
	j.key = newKey(j.from, j.data())
	if answered, known := s.cache.begin(j.key, j.at); known {
		if answered {
			s.send(j, j.respond(), true)
		} else {
			s.drop(j, dropInFlight)
		}
		return
	}
	j.tried = true
	r := reader{opts: &s.opts, tables: s.tables.Load(), client: j.client, attrs: req.attrs}
	e, v, why := r.event(j.from.Addr(), j.at)
	if v == drop {
		if why == dropNAS {
			s.foreignNAS(j.at, j.client)
		}
		s.drop(j, why)
		return
	}
	if r.stamped {
		s.judgeClock(j.at, j.client, r.lag)
	}
	s.remark(&r, j)
	if v == use {
		j.events = s.expand(j.events[:0], e, &r)
	}
	w.jobs = append(w.jobs, j)
}

// remark counts what was odd about a request.
func (s *Server) remark(r *reader, j *job) {
	for i, noted := range r.notes {
		if noted {
			s.count.remarks[i].Add(1)
		}
	}
	if r.notes[notePrefix] {
		s.foreignPrefix(j.at, j.client)
	}
}

// keep has the book keep the events, and answers the requests whose events are
// durable.
func (s *Server) keep(ctx context.Context, w *worker) {
	w.events = w.events[:0]
	for _, j := range w.jobs {
		w.events = append(w.events, j.events...)
	}
	var err error
	if len(w.events) > 0 {
		err = s.book.Apply(ctx, w.events)
	}
	clear(w.events)
	for _, j := range w.jobs {
		mine := err
		if len(j.events) == 0 {
			mine = nil
		}
		if errors.Is(mine, identity.ErrInvalid) { // of one of them: which?
			mine = s.book.Apply(ctx, j.events)
		}
		switch {
		case errors.Is(mine, identity.ErrInvalid):
			s.count.remarks[noteBadAttribute].Add(1)
		case mine != nil:
			s.logFailure(mine)
			s.drop(j, dropNotDurable)
			continue
		}
		for i := range j.events {
			s.tracker.gone(&j.events[i])
		}
		s.cache.answered(j.key)
		s.count.delay.Seconds(s.opts.Clock().Sub(j.at))
		s.send(j, j.respond(), false)
	}
}

// send sends an answer and is done with j.
func (s *Server) send(j *job, answer []byte, again bool) {
	err := j.link.reply(j, answer)
	j.tried = false // its event is kept, whatever becomes of the answer
	if err != nil {
		s.drop(j, dropSend)
		return
	}
	j.client.answered.Add(1)
	if again {
		s.count.repeated.Add(1)
	} else {
		s.count.answered.Add(1)
	}
	if j.buf[0] == codeStatusServer {
		s.count.status.Add(1)
	}
	s.count.inFlight.Add(-1)
	s.free(j)
}

// logEvery is how often a failure of the book is logged, at most.
const logEvery = int64(10 * time.Second)

func (s *Server) logFailure(err error) {
	now, last := s.opts.Clock().UnixNano(), s.logged.Load()
	if now-last < logEvery || !s.logged.CompareAndSwap(last, now) {
		return
	}
	s.opts.Logger.Error("accounting is not answered: the bindings cannot be stored, the NAS will send it again",
		slog.Any("error", err))
}
