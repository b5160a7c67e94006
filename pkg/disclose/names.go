package disclose

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/edgelog/edgelog/pkg/block"
	"github.com/edgelog/edgelog/pkg/session"
)

// Name is what the register of subscribers says about one of them.
type Name struct {
	Subscriber string
	Name       string
	Address    string
	Services   string

	From, To int64 // while that is so: UTC, ns; To is session.Forever until another import says otherwise
}

// moment asks who a subscriber was at a time.
type moment struct {
	id string
	at int64
}

// imported is one import of subscribers.
type imported struct {
	day   int32
	epoch uint64
	*block.Directory
	pages map[int][]block.Subscriber
}

// register is what a reader knows of the imports.
type register struct {
	r    *reader
	list []*imported // newest first
}

// openRegister reads the directories of all imports that say something about the
// window.
func (r *reader) openRegister(ctx context.Context) (*register, error) {
	g := &register{r: r}
	r.register = func(day int32, epoch uint64, plain []byte) {
		d, err := r.decoder.Directory(plain)
		if err != nil {
			r.sum.RegisterFailed++
			return
		}
		g.list = append(g.list, &imported{day: day, epoch: epoch, Directory: d, pages: map[int][]block.Subscriber{}})
	}
	if err := r.more(ctx, moreRegisters); err != nil {
		return nil, err
	}
	slices.SortStableFunc(g.list, func(a, b *imported) int {
		return cmp.Or(cmp.Compare(b.Imported, a.Imported), cmp.Compare(b.epoch, a.epoch))
	})
	if len(g.list) > 0 {
		r.sum.RegisterImported = session.FormatTime(g.list[0].Imported)
	}
	return g, nil
}

// namesOf returns who the subscribers were, as far as the register says so.
func (r *reader) namesOf(ctx context.Context, list []moment) ([]Name, error) {
	if len(list) == 0 {
		return nil, nil
	}
	g, err := r.openRegister(ctx)
	if err != nil {
		return nil, err
	}
	return g.names(ctx, list)
}

// names returns who was who at each of the moments. A name that holds at
// several of them stands there once.
func (g *register) names(ctx context.Context, list []moment) ([]Name, error) {
	var out []Name
	last := map[string]int{} // by subscriber, the place of the newest of his names in out
	for _, m := range list {
		if i, ok := last[m.id]; ok && out[i].From <= m.at && m.at < out[i].To {
			continue
		}
		n, err := g.at(ctx, m)
		if err != nil {
			return nil, err
		}
		if n != nil {
			last[m.id], out = len(out), append(out, *n)
		}
	}
	return out, nil
}

// nameCandidates puts the name of that time beside each candidate.
func (r *reader) nameCandidates(ctx context.Context, a *WhoAnswer) error {
	if !slices.ContainsFunc(a.Candidates, func(c Candidate) bool { return c.Subscriber != "" }) {
		return nil
	}
	g, err := r.openRegister(ctx)
	if err != nil {
		return err
	}
	for i := range a.Candidates {
		c := &a.Candidates[i]
		if c.Subscriber == "" {
			continue
		}
		if c.Name, err = g.at(ctx, moment{c.Subscriber, min(max(a.Query.At, c.From), c.To-1)}); err != nil {
			return err
		}
	}
	return nil
}

// at returns who a subscriber was; nil when the register does not say. The
// newest import that says anything about him at that time decides.
func (g *register) at(ctx context.Context, m moment) (*Name, error) {
	until := session.Forever
	for _, i := range g.list {
		rows, err := g.rows(ctx, i, m.id)
		if err != nil || rows == nil {
			return nil, err
		}
		begun := false
		for k := len(rows) - 1; k >= 0; k-- {
			s := &rows[k]
			if s.From > m.at {
				begun, until = true, min(until, s.From)
				continue
			}
			if s.To <= m.at {
				return nil, nil
			}
			return &Name{s.ID, s.Name, s.Address, s.Services, s.From, min(s.To, until)}, nil
		}
		if !begun && !i.Partial {
			if i.From <= m.at {
				return nil, nil // he is not in it
			}
			until = min(until, i.From)
		}
	}
	return nil, nil
}

// rows returns the rows of one subscriber in an import, by From; nil when they
// cannot be read, which is counted.
func (g *register) rows(ctx context.Context, i *imported, id string) ([]block.Subscriber, error) {
	out := []block.Subscriber{}
	for page, to := i.Pages(id); page < to; page++ {
		rows, have := i.pages[page]
		if !have {
			var err error
			if rows, err = g.page(ctx, i, page); err != nil {
				return nil, err
			}
			if rows == nil {
				return nil, nil
			}
			i.pages[page] = rows
		}
		at, _ := slices.BinarySearchFunc(rows, id, func(s block.Subscriber, id string) int { return cmp.Compare(s.ID, id) })
		for ; at < len(rows) && rows[at].ID == id; at++ {
			s := rows[at]
			if s.From == 0 {
				s.From = i.From
			}
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, block.CompareSubscribers)
	return out, nil
}

// page reads one page of an import.
func (g *register) page(ctx context.Context, i *imported, page int) (rows []block.Subscriber, err error) {
	before := g.r.sum.RegisterFailed
	g.r.register = func(day int32, epoch uint64, plain []byte) {
		var bad error
		if rows, bad = g.r.decoder.Register(plain); bad != nil || day != i.day || epoch != i.epoch {
			rows = nil
		}
	}
	failed := g.r.sum.Failed
	err = g.r.fetch(ctx, strings.NewReplacer("{id}", g.r.begin.ID, "{day}", strconv.Itoa(int(i.day)),
		"{epoch}", strconv.FormatUint(i.epoch, 10), "{page}", strconv.Itoa(page)).Replace(PathPage))
	g.r.sum.Failed = failed // a name is no part of what was recorded
	if rows == nil {
		g.r.sum.RegisterFailed = before + 1
	}
	return rows, err
}
