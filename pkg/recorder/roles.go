package recorder

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"strings"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/vault"
)

// Who may use which routes of the recorder's own. None of them names a person
// whose records are kept.
const (
	// mayLook: how the recording fares, as numbers.
	mayLook = config.Operator | config.Auditor
	// mayCheck: what is kept, until when and for whose keys, and whether all of it is there.
	mayCheck = config.Operator | config.Custodian | config.Auditor
	// mayKnow: what an answer may hold and how long: all who have to do with one.
	mayKnow = config.Operator | config.Officer | config.Custodian | config.Auditor
	// mayAudit: the ledger, as it lies on the disk: what names people in it is sealed.
	mayAudit = config.Operator | config.Custodian | config.Auditor
	// mayTend: what keeps the recording going. Wrapped keys for a backup open nothing by themselves.
	mayTend = config.Operator
	// mayDestroy: what is due is destroyed; the law leaves nobody a choice.
	mayDestroy = config.Operator | config.Custodian
	// mayAnswerFor: what cannot be taken back. Who holds the keys answers for what is kept,
	// and for how long a case needs it.
	mayAnswerFor = config.Custodian
)

type callerKey struct{}

// CallerOf returns who asks over the control socket, with the roles that he had
// when he asked; false for a request that did not come through Handle.
func CallerOf(ctx context.Context) (config.Caller, bool) {
	c, ok := ctx.Value(callerKey{}).(config.Caller)
	return c, ok
}

// WhoAsks describes the caller for the sealed part of the ledger; "" when it is not
// known who asks.
func WhoAsks(ctx context.Context) string {
	p, ok := PeerOf(ctx)
	if !ok {
		return ""
	}
	who := fmt.Sprintf("uid %d gid %d", p.UID, p.GID)
	if c, ok := CallerOf(ctx); ok && c.Person != "" {
		who += fmt.Sprintf(" person %q", c.Person)
	}
	return who
}

// caller finds out who asks by the configuration in force, at each request: a
// connection may outlive a clearance, or a reload. The user that the agent runs as
// is an operator, as root is.
func (r *Recorder) caller(ctx context.Context) (c config.Caller, known bool) {
	p, ok := PeerOf(ctx)
	if !ok {
		return c, false
	}
	c = r.Config().People.Caller(p.UID, p.GID, r.o.Now(), p.Groups...)
	own := p.UID == 0 || int(p.UID) == os.Geteuid()
	if c.Person == "" && own {
		c.Roles = config.Operator
	}
	return c, true
}

// Handle answers a pattern of http.ServeMux on the control socket, to callers who
// have at least one of the roles; all others get 403, and the ledger an entry. The
// handler finds the caller with CallerOf. It must be called before Run.
func (r *Recorder) Handle(pattern string, may config.Roles, h http.HandlerFunc) {
	if may == 0 {
		panic("recorder: nobody may use " + pattern)
	}
	r.routes[pattern] = may
	r.mux.HandleFunc(pattern, func(w http.ResponseWriter, req *http.Request) {
		c, known := r.caller(req.Context())
		if !known || !c.Roles.Has(may) {
			r.refuse(w, req, pattern, may)
			return
		}
		h(w, req.WithContext(context.WithValue(req.Context(), callerKey{}, c)))
	})
}

// Routes returns who may use each pattern that Handle was given.
func (r *Recorder) Routes() map[string]config.Roles { return maps.Clone(r.routes) }

// serveHTTP tells who has no role nothing, not even which routes there are.
func (r *Recorder) serveHTTP(w http.ResponseWriter, req *http.Request) {
	if c, _ := r.caller(req.Context()); c.Roles == 0 {
		_, route := r.mux.Handler(req)
		may, ok := r.routes[route]
		if !ok {
			route, may = "none", mayKnow
		}
		r.refuse(w, req, route, may)
		return
	}
	r.mux.ServeHTTP(w, req)
}

// refuse answers with 403 and has the refusal recorded.
func (r *Recorder) refuse(w http.ResponseWriter, req *http.Request, route string, needed config.Roles) {
	c, known := r.caller(req.Context())
	p, _ := PeerOf(req.Context())
	r.refusals.note(&c, p, known, route, needed)
	text := fmt.Sprintf("this needs the role %s, and uid %d has ", strings.ReplaceAll(needed.String(), ", ", " or "), c.UID)
	switch {
	case !known:
		text = "it is not known who asks"
	case c.Roles == 0:
		text += "no role"
	default:
		text += "only " + c.Roles.String()
	}
	if c.Lapsed {
		text += "; the security clearance in the configuration is over"
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusForbidden)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": text + "; the refusal is recorded"}) // the peer may be gone
}

// checkPeople finds out whether the keys of all persons can be used, and that no
// person is the agent itself. It returns for whom the ledger is sealed.
func checkPeople(c *config.Config) (*vault.Recipients, error) {
	for _, p := range c.People.With(config.Officer | config.Custodian | config.Auditor) {
		if int(p.UID) == os.Geteuid() {
			return nil, fmt.Errorf("person %q has the uid %d that the agent runs as, and could have all it is asked for without asking; give the agent or the person another user", p.Name, p.UID)
		}
		if _, err := vault.ParseRecipients([]string{p.Key}); err != nil {
			return nil, fmt.Errorf("key of person %q: %w", p.Name, err)
		}
	}
	to, err := vault.ParseRecipients(append(append([]string{}, c.Custodians.Recipients...), c.People.Keys(config.Auditor)...))
	if err != nil {
		return nil, fmt.Errorf("keys of custodians and auditors: %w", err)
	}
	return to, nil
}

// seal seals a payload of the ledger to the custodians and the auditors of the
// configuration that was read last.
func (r *Recorder) seal(payload []byte) ([]byte, error) { return r.sealers.Load().SealTo(payload) }
