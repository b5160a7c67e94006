package disclose

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edgelog/edgelog/pkg/vault"
)

// FileRequest has the agent take a request. Officer, key, time and nonce are the
// agent's to fill in.
func FileRequest(ctx context.Context, client *http.Client, r *Request) (*Filing, error) {
	f := new(Filing)
	return f, roundTrip(ctx, client, http.MethodPost, PathRequests, r, f)
}

// ListRequests returns those that are alive, or have ended lately.
func ListRequests(ctx context.Context, client *http.Client) (*Requests, error) {
	l := new(Requests)
	return l, roundTrip(ctx, client, http.MethodGet, PathRequests, nil, l)
}

// GetRequest returns one request, with its grant where there is one.
func GetRequest(ctx context.Context, client *http.Client, id int64) (*Requests, error) {
	l := new(Requests)
	err := roundTrip(ctx, client, http.MethodGet, strings.Replace(PathRequest, "{id}", strconv.FormatInt(id, 10), 1), nil, l)
	if err == nil && len(l.Cases) != 1 {
		err = errFrame
	}
	return l, err
}

// RefuseRequest is a custodian's no, and WithdrawRequest the officer's own.
func RefuseRequest(ctx context.Context, client *http.Client, id int64, text []byte, reason string) (*Case, error) {
	return takeStep(ctx, client, id, stepRefuse, &Step{Text: text, Reason: reason})
}

// WithdrawRequest ends a request before it was run.
func WithdrawRequest(ctx context.Context, client *http.Client, id int64, text []byte, reason string) (*Case, error) {
	return takeStep(ctx, client, id, stepWithdraw, &Step{Text: text, Reason: reason})
}

// ApproveRequest approves the one request of l, which GetRequest gave, as the
// custodian whose identities ids are. The first approval reads, and makes the grant;
// where more are needed it is sealed once more, to the custodians who have not
// approved yet, so that none of them can be passed over. It returns what the first
// one found: how much there is, to be judged before it is given away by judge; nil:
// it is given away.
func ApproveRequest(ctx context.Context, client *http.Client, l *Requests, ids *vault.Identities, now time.Time, judge func(*Found) error) (*Case, *Found, error) {
	c := &l.Cases[0]
	r, text, err := c.Open(ids)
	if err != nil {
		return nil, nil, err
	}
	var found *Found
	step := &Step{Text: text}
	switch {
	case c.State != Filed: // an emergency is ratified
	case len(c.Approvals) == 0:
		p := &Permit{Act: Approve, Request: c.ID, Text: text, Query: &r.Task.Query, Identities: ids}
		if found, step.Grant, err = MakeGrant(ctx, client, p, r.OfficerKey, now); err != nil {
			return nil, nil, err
		}
		if judge != nil {
			if err := judge(found); err != nil {
				return nil, found, err
			}
		}
	default:
		if step.Grant, err = vault.OpenSealed(c.SealedGrant, ids); err != nil {
			return nil, nil, fmt.Errorf("take the approval of another custodian on: %w: %w", ErrWrongIdentity, err)
		}
	}
	if len(step.Grant) > 0 && len(c.Approvals)+1 < c.Needed {
		if step.Grant, err = l.wrap(r, step.Grant); err != nil {
			return nil, found, err
		}
	}
	done, err := takeStep(ctx, client, c.ID, stepApprove, step)
	return done, found, err
}

// wrap seals a grant to the custodians who have not approved yet, but not to who
// does so now.
func (l *Requests) wrap(r *Request, grant []byte) ([]byte, error) {
	var to []string
	for _, h := range l.Custodians {
		if h.Person != l.You && !slices.Contains(l.Cases[0].Approvals, tag(r, h.Person)) && h.Person != r.Officer {
			to = append(to, h.Key)
		}
	}
	if len(to) == 0 {
		return nil, fmt.Errorf("%w: it needs more custodians than there are; the configuration says how many: disclose.approvals", ErrRequest)
	}
	b, err := vault.SealTo(to, grant)
	if err != nil {
		return nil, fmt.Errorf("seal the grant for the next custodian: %w", err)
	}
	return b, nil
}

// RunPermit returns by what right the officer whose identities ids are reads for the
// one request of l.
func RunPermit(l *Requests, ids *vault.Identities) (*Permit, *Request, error) {
	c := &l.Cases[0]
	r, text, err := c.Open(ids)
	if err != nil {
		return nil, nil, err
	}
	p := &Permit{Act: Run, Request: c.ID, Text: text, Query: &r.Task.Query, Identities: ids}
	if len(c.SealedGrant) == 0 || c.State != Approved {
		return p, r, fmt.Errorf("%w: request %d is %s", ErrNoGrant, c.ID, c.State)
	}
	p.Grant, err = OpenGrant(c.SealedGrant, ids, c.ID, text)
	return p, r, err
}

// ErrNoGrant means that there is nothing to read with.
var ErrNoGrant = errors.New("an approved request is needed")

// HoldPermit returns by what right a custodian has the sessions of the one request
// of l held.
func HoldPermit(l *Requests, ids *vault.Identities) (*Permit, *Request, error) {
	r, text, err := l.Cases[0].Open(ids)
	if err != nil {
		return nil, nil, err
	}
	q := r.Task.Query
	if err := q.hold(); err != nil {
		return nil, nil, err
	}
	return &Permit{Act: Preserve, Request: l.Cases[0].ID, Text: text, Query: &q, Identities: ids}, r, nil
}

// Open returns the request, and its text, for who may read it. The error wraps
// ErrWrongIdentity or ErrRequest.
func (l *Listed) Open(ids *vault.Identities) (*Request, []byte, error) {
	text, err := vault.OpenSealed(l.Text, ids)
	if err != nil {
		return nil, nil, fmt.Errorf("open request %d: %w: %w", l.ID, ErrWrongIdentity, err)
	}
	if sum := Commitment(text); hex.EncodeToString(sum[:]) != l.Commitment {
		return nil, nil, fmt.Errorf("%w: request %d is not the one of which the ledger has the hash", ErrRequest, l.ID)
	}
	r, err := ParseRequest(text)
	return r, text, err
}

func takeStep(ctx context.Context, client *http.Client, id int64, step string, s *Step) (*Case, error) {
	c := new(Case)
	path := strings.NewReplacer("{id}", strconv.FormatInt(id, 10), "{step}", step).Replace(PathStep)
	return c, roundTrip(ctx, client, http.MethodPost, path, s, c)
}

// roundTrip sends in, if there is something, and reads out.
func roundTrip(ctx context.Context, client *http.Client, method, path string, in, out any) (err error) {
	var body io.ReadCloser
	if in != nil {
		body, err = post(ctx, client, path, in)
	} else {
		body, err = send(ctx, client, method, path, nil)
	}
	if err != nil {
		return err
	}
	defer body.Close() //nolint:errcheck // only read
	if err := json.NewDecoder(body).Decode(out); err != nil {
		return fmt.Errorf("%w: %w", errFrame, err)
	}
	return nil
}
