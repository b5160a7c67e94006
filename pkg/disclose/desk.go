package disclose

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/edgelog/edgelog/pkg/ledger"
)

// remembered is how long a request is listed after its end; in the ledger it stays.
const remembered = 31 * 24 * time.Hour

// desk keeps the requests. Where each stands is in the ledger and nowhere else: at
// a start it is read from there. Beside it, a request lies sealed in a file, for its
// officer and the custodians, and so does its grant until it was used.
type desk struct {
	dir    string
	ledger Ledger
	policy func() Policy
	now    func() time.Time
	log    *slog.Logger

	mu      sync.Mutex
	cases   map[int64]*Case
	running map[int64]bool    // of cases: somebody reads for it
	decided map[int64][]int64 // of cases: the numbers of their approvals' ledger entries
	newest  time.Time         // the latest that is known to have been: a clock that goes back makes nothing valid again
	broken  error             // why no request can be dealt with
	before  int64             // entries of the ledger when this desk was opened
}

// openDesk reads the cases from the ledger. That it cannot is no reason for the
// agent not to record: it is said to whoever asks, until Tick has succeeded.
func openDesk(g *GateOptions) *desk {
	d := &desk{dir: g.Dir, ledger: g.Ledger, policy: g.Policy, now: g.Now, log: g.Logger, before: g.Ledger.Size()}
	if err := d.load(); err != nil {
		d.log.Error("requests are not dealt with", "error", err)
		d.broken = err
	}
	return d
}

// time is the clock's, or when that went back the latest it had.
func (d *desk) time() time.Time {
	if t := d.now().UTC().Truncate(time.Millisecond); t.After(d.newest) {
		d.newest = t
	}
	return d.newest
}

// load finds the cases in the ledger, the newest entries first, back to where
// nothing can be alive or is listed any more.
func (d *desk) load() error {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of requests: %w", err)
	}
	d.cases, d.running, d.decided = map[int64]*Case{}, map[int64]bool{}, map[int64][]int64{}
	p := d.policy()
	oldest := d.now().Add(-remembered - p.Wait - p.Run - p.Ratify)
	answered, open := map[int64]time.Time{}, unfinished{}
	const step = 4096
	for to := d.ledger.Size(); to > 0; to -= min(step, to) {
		list, err := d.ledger.Entries(context.Background(), max(0, to-step), to)
		if err != nil {
			return fmt.Errorf("read requests from the ledger: %w", err)
		}
		for i := len(list) - 1; i >= 0; i-- {
			d.newest = latest(d.newest, list[i].Time)
			if err := d.learn(&list[i], answered); err != nil {
				return err
			}
			open.learn(&list[i], d.before)
		}
		if list[0].Time.Before(oldest) {
			break
		}
	}
	if err := open.end(context.Background(), d.ledger); err != nil {
		return err
	}
	return d.compare()
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// learn takes what an entry says, unless a later one has said more.
func (d *desk) learn(r *ledger.Record, answered map[int64]time.Time) error {
	switch r.Kind {
	case ledger.Outcome:
		if r.Fields[FieldAct] == string(Run) && r.Fields[FieldResult] == ResultAnswered {
			if id, err := strconv.ParseInt(r.Fields[FieldRequest], 10, 64); err == nil && answered[id].IsZero() {
				answered[id] = r.Time
			}
		}
	case ledger.Request:
		c, err := caseOf(r)
		if err != nil {
			return err
		}
		if r.Fields[FieldStep] == stepApprove {
			d.decided[c.ID] = append([]int64{r.Index}, d.decided[c.ID]...) // the newest comes first
		}
		if d.cases[c.ID] != nil {
			return nil
		}
		if at, ok := answered[c.ID]; ok && c.State == Approved {
			c.State, c.Ended = Answered, at
		}
		d.cases[c.ID] = c
	}
	return nil
}

// compare removes files of what is over, and ends cases whose request is not there:
// its officer was never told that it was filed.
func (d *desk) compare() error {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return fmt.Errorf("read the directory of requests: %w", err)
	}
	there := map[int64]bool{}
	for _, e := range entries {
		word, kind, _ := strings.Cut(e.Name(), ".")
		id, err := strconv.ParseInt(word, 10, 64)
		c := d.cases[id]
		switch {
		case err == nil && kind == "request" && c != nil:
			there[id] = true
		case err == nil && c != nil && e.Name() == c.grantFile() && c.Grant != "" && !c.grantOver():
		default:
			if err := d.remove(e.Name()); err != nil {
				return err
			}
		}
	}
	for id, c := range d.cases {
		if !there[id] && c.State == Filed {
			c.State, c.Ended = Expired, d.time()
			if err := d.write(context.Background(), c, stepExpire, statement{Reason: "its file is not there"}); err != nil {
				return err
			}
		}
	}
	return nil
}

// grantOver reports whether the grant of the case may not be used any more.
func (c *Case) grantOver() bool { return c.State != Filed && c.State != Approved }

// grantFile is where the grant of the case lies. Each approval that it needs has one of
// its own: what the ledger does not take harms nothing that came before it.
func (c *Case) grantFile() string {
	kind := "grant"
	if n := min(len(c.Approvals), c.Needed); n > 1 {
		kind += strconv.Itoa(n)
	}
	return name(c.ID, kind)
}

// write puts a step into the ledger.
func (d *desk) write(ctx context.Context, c *Case, step string, said statement) error {
	e, err := c.entry(step, said)
	if err != nil {
		return err
	}
	index, err := d.ledger.Append(ctx, e)
	if err != nil {
		return fmt.Errorf("write request %d to the ledger: %w", c.ID, err)
	}
	if step == stepApprove {
		d.decided[c.ID] = append(d.decided[c.ID], index)
	}
	return nil
}

// entries returns the numbers of the ledger entries by which a request was filed and
// approved.
func (d *desk) entries(id int64) []int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]int64{id}, d.decided[id]...)
}

// file takes a request. It returns the case and the text that it is known by.
func (d *desk) file(ctx context.Context, by *Caller, r *Request) (*Case, []byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken != nil {
		return nil, nil, d.broken
	}
	p, now := d.policy(), d.time()
	switch {
	case !by.Officer:
		return nil, nil, by.lacks("officer")
	case r.Emergency != "" && len(p.Custodians) < 2:
		return nil, nil, fmt.Errorf("%w: an emergency is approved by one custodian now and by another later, and there are not two; file a request as usual", ErrRequest)
	}
	r.Officer, r.OfficerKey, r.Filed, r.Nonce = by.Person, by.Key, now, make([]byte, 32)
	if _, err := rand.Read(r.Nonce); err != nil {
		return nil, nil, err
	}
	r.Authorisation.Country = cmp.Or(r.Authorisation.Country, p.Country)
	if err := r.Check(latest(now, d.now()), p.Limits); err != nil { // now has no more than milliseconds
		return nil, nil, err
	}
	text, err := r.Text()
	if err != nil {
		return nil, nil, err
	}
	sum := Commitment(text)
	c := &Case{
		State: Filed, Ask: r.Task.Query.action(), Commitment: hex.EncodeToString(sum[:]), Filed: now, Until: now.Add(p.Wait),
		Officer: tag(r, by.Person), OfficerAs: by.tags(r), Needed: p.Approvals, Emergency: r.Emergency != "",
	}
	if c.Emergency {
		c.Needed = 1
	}
	sealed, err := d.sealed(&p, r, text)
	if err != nil {
		return nil, nil, err
	}
	said := by.says(r.Emergency)
	said.Request = text
	e, err := c.entry(stepFile, said)
	if err != nil {
		return nil, nil, err
	}
	if c.ID, err = d.ledger.Append(ctx, e); err != nil {
		return nil, nil, fmt.Errorf("write the request to the ledger: %w", err)
	}
	if err := d.put(name(c.ID, "request"), sealed); err != nil {
		return nil, nil, err // the next start ends it
	}
	out := *c
	d.cases[c.ID] = c
	return &out, text, nil
}

// sealed is a request as it lies on the disk: for its officer and all who decide
// about it or check it.
func (d *desk) sealed(p *Policy, r *Request, text []byte) ([]byte, error) {
	to := []string{r.OfficerKey}
	for _, h := range p.Custodians {
		to = append(to, h.Key)
	}
	to = append(to, p.Readers...)
	slices.Sort(to)
	b, err := p.Seal(slices.Compact(to), text)
	if err != nil {
		return nil, fmt.Errorf("seal the request: %w", err)
	}
	return b, nil
}

// find returns a case with its request, of which the text is presented.
func (d *desk) find(id int64, text []byte) (*Case, *Request, error) {
	if d.broken != nil {
		return nil, nil, d.broken
	}
	c := d.cases[id]
	if c == nil {
		return nil, nil, errNoCase
	}
	if sum := Commitment(text); c.Commitment != hex.EncodeToString(sum[:]) {
		return nil, nil, deny("not the request", "what was presented is not request %d as it was filed", id)
	}
	r, err := ParseRequest(text)
	return c, r, err
}

// admit reports whether somebody may begin to read, and returns the request. Each
// one that may run is to be let go.
func (d *desk) admit(act Act, by *Caller, id int64, text []byte) (*Request, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, r, err := d.find(id, text)
	if err != nil {
		return nil, err
	}
	if err := c.permits(act, by, r, d.time()); err != nil {
		return nil, err
	}
	if act == Run {
		if d.running[id] {
			return nil, deny("runs already", "request %d is being run", id)
		}
		d.running[id] = true
	}
	return r, nil
}

func (d *desk) letGo(id int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.running, id)
}

// conclude writes the outcome of a run with write, unless the request was withdrawn
// meanwhile: then write is told another result. Its grant is destroyed.
func (d *desk) conclude(id int64, result string, write func(result string) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.cases[id]
	if c == nil || c.State != Approved {
		if err := write(resultWithdrawn); err != nil {
			return err
		}
		return deny("withdrawn", "request %d is not approved any more, so its answer is not given", id)
	}
	if err := write(result); err != nil {
		return err
	}
	if result == ResultAnswered {
		c.State, c.Ended = Answered, d.time()
		return d.remove(c.grantFile())
	}
	return nil
}

// approve takes a custodian's approval. grant is what it gives, or for the second
// approval of an emergency nothing.
func (d *desk) approve(ctx context.Context, by *Caller, id int64, text, grant []byte) (*Case, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, r, err := d.find(id, text)
	if err != nil {
		return nil, err
	}
	now, p := d.time(), d.policy()
	if err := c.permits(Approve, by, r, now); err != nil {
		return nil, err
	}
	next := *c
	next.Approvals = append(slices.Clone(c.Approvals), tag(r, by.Person))
	next.ApprovedAs = append(slices.Clone(c.ApprovedAs), by.tags(r)...)
	if c.State == Filed {
		if len(grant) == 0 {
			return nil, fmt.Errorf("%w: an approval must bring the grant", ErrRequest)
		}
		sum := sha256.Sum256(grant)
		next.Grant = hex.EncodeToString(sum[:])
		if len(next.Approvals) >= next.Needed {
			next.State, next.Until = Approved, now.Add(p.Run)
			if next.Emergency {
				next.Ratify = now.Add(p.Ratify)
			}
		}
		if err := d.put(next.grantFile(), grant); err != nil {
			return nil, err
		}
	}
	if err := d.write(ctx, &next, stepApprove, by.says("")); err != nil {
		return nil, err
	}
	was := c.grantFile()
	if *c = next; was != next.grantFile() {
		return &next, d.remove(was)
	}
	return &next, nil
}

// end takes a refusal or a withdrawal.
func (d *desk) end(ctx context.Context, by *Caller, id int64, text []byte, step, reason string) (*Case, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, r, err := d.find(id, text)
	if err != nil {
		return nil, err
	}
	next := *c
	next.Ended = d.time()
	switch {
	case !plain(reason) || strings.TrimSpace(reason) == "":
		return nil, fmt.Errorf("%w: the reason is missing, or longer than 256 bytes", ErrRequest)
	case step == stepRefuse && !by.Custodian:
		return nil, by.lacks("custodian")
	case step == stepRefuse && c.State != Filed:
		return nil, deny("state "+string(c.State), "request %d is %s, so it is not refused any more", id, c.State)
	case step == stepRefuse:
		next.State = Refused
	case !by.Officer || c.Officer != tag(r, by.Person):
		return nil, deny("not his", "request %d was filed by another person", id)
	case c.State != Filed && c.State != Approved:
		return nil, deny("state "+string(c.State), "request %d is %s, so it is not withdrawn any more", id, c.State)
	default:
		next.State = Withdrawn
	}
	if err := d.write(ctx, &next, step, by.says(reason)); err != nil {
		return nil, err
	}
	*c = next
	return &next, d.remove(next.grantFile())
}

// tick ends what was not approved or run in time, and says which emergencies were
// not ratified.
func (d *desk) tick(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken != nil {
		if d.broken = d.load(); d.broken != nil {
			return d.broken
		}
		d.log.Info("requests are dealt with again")
	}
	now := d.time()
	var errs []error
	for id, c := range d.cases {
		next, step := *c, ""
		switch {
		case c.unratified() && now.After(c.Ratify):
			next.Overdue, step = true, stepOverdue
			if c.State == Approved {
				next.State, next.Ended = Expired, now
			}
		case (c.State == Filed || c.State == Approved) && now.After(c.Until) && !d.running[id]:
			next.State, next.Ended, step = Expired, now, stepExpire
		case c.over() && now.Sub(c.Ended) > remembered:
			delete(d.cases, id)
			delete(d.decided, id)
			errs = append(errs, d.remove(name(id, "request")))
			continue
		default:
			continue
		}
		if err := d.write(ctx, &next, step, statement{}); err != nil {
			errs = append(errs, err)
			continue
		}
		*c = next
		d.log.Warn("a request was not dealt with in time", "request", id, "step", step)
		if next.grantOver() {
			errs = append(errs, d.remove(next.grantFile()))
		}
	}
	return errors.Join(errs...)
}
