package disclose

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Read reads for an approved request (Run), or for its approval (Approve): from the
// ledger's intent to its outcome, to the end or not at all. Errors wrap ErrAgent when
// the agent refuses, which it says why; ErrWrongIdentity, ErrNothingCan, ErrCut.
func Read(ctx context.Context, client *http.Client, p *Permit) (*Found, *Receipt, error) {
	f, r, err := read(ctx, client, p, nil)
	if err != nil {
		return nil, nil, err
	}
	return f, r.receipt, nil
}

// MakeGrant reads as Read does, as a custodian, and returns beside what is found the
// grant for the officer of the request, sealed to his key. made is the time of it.
func MakeGrant(ctx context.Context, client *http.Client, p *Permit, officer string, made time.Time) (*Found, []byte, error) {
	var grant []byte
	f, _, err := read(ctx, client, p, func(r *reader) (err error) {
		grant, err = r.grant(p.Request, p.Text, officer, made)
		return err
	})
	return f, grant, err
}

func read(ctx context.Context, client *http.Client, p *Permit, after func(*reader) error) (*Found, *reader, error) {
	f := new(Found)
	r, err := conduct(ctx, client, p, func(ctx context.Context, r *reader) error {
		if err := r.find(ctx, f); err != nil {
			return err
		}
		r.keyring.settle(&r.sum)
		*f.Summary() = r.sum
		if p.Pack != nil {
			manifest, err := p.Pack(f, r.begin.Paper)
			if err != nil {
				return fmt.Errorf("pack the answer: %w", err)
			}
			r.manifest = hex.EncodeToString(manifest[:])
		}
		if after != nil {
			return after(r)
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	r.sum.Request = p.Request
	*f.Summary() = r.sum
	return f, r, nil
}

// find answers the query.
func (r *reader) find(ctx context.Context, f *Found) (err error) {
	switch r.q.Ask {
	case WantWho:
		f.Who, err = r.who(ctx)
	case WantAccess:
		f.Access, err = r.accessRecords(ctx)
	case WantCommunications:
		f.Communications, err = r.communications(ctx)
	default:
		f.Sessions, err = r.sessions(ctx)
	}
	return err
}

// Limit leaves the first n records in the answer, by time, or of candidates the
// best, and says so in its summary.
func (f *Found) Limit(n int) {
	all := 0
	switch {
	case f.Who != nil:
		all = len(f.Who.Candidates)
		f.Who.Candidates = f.Who.Candidates[:min(n, all)]
	case f.Access != nil:
		all = len(f.Access.Records)
		f.Access.Records = f.Access.Records[:min(n, all)]
	case f.Communications != nil:
		all = len(f.Communications.Communications)
		f.Communications.Communications = f.Communications.Communications[:min(n, all)]
	default:
		all = len(f.Sessions.Hits)
		f.Sessions.Hits = f.Sessions.Hits[:min(n, all)]
	}
	f.Summary().LeftOut = max(0, all-n)
}

// Print writes the answer in one of Formats.
func (f *Found) Print(w io.Writer, format string) error {
	switch {
	case f.Who != nil:
		return PrintWho(w, f.Who, format)
	case f.Access != nil:
		return PrintAccess(w, f.Access, format)
	case f.Communications != nil:
		return PrintCommunications(w, f.Communications, format)
	}
	return Print(w, f.Sessions, format)
}

// Beside returns what csv has no place for.
func (f *Found) Beside() []string {
	switch {
	case f.Who != nil:
		return append(f.Who.Head(), f.Lines()...)
	case f.Access != nil:
		return append(NameLines(f.Access.Names), f.Lines()...)
	case f.Communications != nil:
		return append(NameLines(f.Communications.Names), f.Lines()...)
	}
	return append(NameLines(f.Sessions.Names), f.Lines()...)
}

// Lines returns what must be known to judge the answer, as lines for people, beginning
// with how much was found. They name nobody.
func (f *Found) Lines() []string {
	if f.Communications != nil {
		return f.Communications.Lines()
	}
	return f.Summary().Lines()
}
