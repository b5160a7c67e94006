package recorder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/ledger"
	"github.com/edgelog/edgelog/pkg/probe"
)

// Reloaded says what a new configuration did. The names are keys of the
// configuration file.
type Reloaded struct {
	Changed      []string // in force from now on
	NeedsRestart []string // different, but in force only after a restart
}

// fixed are the parts of a configuration that a running agent cannot change.
func fixed(c *config.Config) map[string]any {
	return map[string]any{
		"gateway": c.Gateway, "provider": c.Provider, "data_dir": c.DataDir, "run_dir": c.RunDir, "bpf_dir": c.BPFDir,
		"profile": c.Profile, "legal_basis": c.LegalBasis, "table": c.Table, "timeouts": c.Timeouts,
		"radius.listen": c.RADIUS.Listen, "radius.radsec.listen": c.RADIUS.RadSec.Listen,
		"radius":      [2]bool{c.RADIUS.PreferCUI, c.RADIUS.MACSubscriber},
		"dhcp.listen": c.DHCP.Listen, "dhcp.subscriber": c.DHCP.Subscriber, "dhcp.join_by_mac": c.DHCP.JoinByMAC,
		"custodians": c.Custodians, "identity": c.Identity, "store": withoutRetention(c.Store), "metrics": c.Metrics,
		"nat": withoutExporters(c.NAT), "ledger": c.Ledger,
	}
}

func withoutRetention(s config.Store) config.Store {
	s.RetentionDays = 0
	return s
}

// Reload puts into force what can be put into force while recording goes on:
// border, uplinks, RADIUS clients, their secrets and certificates and the tables
// of accounting, DHCP servers, the static table, translators that may send, the time of
// retention, persons and their roles, what may be asked for, statistics, on_stop. The ledger is
// sealed to the custodians and auditors of the new configuration at once; data keys
// are wrapped for new custodians after a restart. The error says what could not be
// applied; the rest of Reloaded holds all the same.
func (r *Recorder) Reload(_ context.Context, c *config.Config) (Reloaded, error) {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	r.tellReloading()
	defer r.tell("READY=1")
	sealers, err := checkPeople(c)
	if err != nil {
		return Reloaded{}, fmt.Errorf("%w; the old configuration stays in force", err)
	}
	old := *r.Config()
	next := old
	var out Reloaded
	was, is := fixed(&old), fixed(c)
	for key := range is {
		if !reflect.DeepEqual(was[key], is[key]) {
			out.NeedsRestart = append(out.NeedsRestart, key)
		}
	}
	slices.Sort(out.NeedsRestart)
	var errs []error
	apply := func(key string, differs bool, do func() error, keep func()) {
		if !differs {
			return
		}
		if err := do(); err != nil {
			errs = append(errs, fmt.Errorf("apply %s: %w", key, err))
			return
		}
		keep()
		out.Changed = append(out.Changed, key)
	}
	apply("border", !reflect.DeepEqual(old.Border, c.Border),
		func() error {
			r.nat.setLocal(c.Border.Local)
			return r.src.SetBorder(c.Border.Local, c.Border.Exempt)
		},
		func() { next.Border = c.Border })
	apply("nat.ipfix.exporters", !reflect.DeepEqual(old.NAT.IPFIX.Exporters, c.NAT.IPFIX.Exporters),
		func() error { r.nat.setExporters(c.NAT.IPFIX.Exporters); return nil },
		func() { next.NAT.IPFIX.Exporters = c.NAT.IPFIX.Exporters })
	apply("uplink", !reflect.DeepEqual(old.Uplinks, c.Uplinks),
		func() error { return r.setUplinks(c) },
		func() { next.Uplinks = c.Uplinks })
	r.applyRADIUS(apply, &old, &next, c, &out)
	apply("dhcp.server", !reflect.DeepEqual(old.DHCP.Servers, c.DHCP.Servers),
		func() error { return r.dhcp.set(&c.DHCP) },
		func() { next.DHCP.Servers = c.DHCP.Servers })
	apply("static", len(c.Static)+len(old.Static) > 0 || c.StaticFile != "" || old.StaticFile != "", // a file may have changed
		func() error { return r.setStatic(c) },
		func() { next.Static, next.StaticFile = c.Static, c.StaticFile })
	apply("store.retention_days", old.Store.RetentionDays != c.Store.RetentionDays, func() error { return nil },
		func() { next.Store.RetentionDays = c.Store.RetentionDays })
	applyPeople(apply, r.control.path, &old, &next, c)
	apply("statistics", old.Statistics != c.Statistics, func() error { return nil }, func() { next.Statistics = c.Statistics })
	next.Hash = c.Hash
	r.sealers.Store(sealers)
	r.conf.Store(&next)
	r.noteReload(&next, &out, len(errs))
	return out, errors.Join(errs...)
}

func (r *Recorder) noteReload(next *config.Config, done *Reloaded, failed int) {
	fields := map[string]string{
		"configuration": hex.EncodeToString(next.Hash[:]),
		"changed":       strings.Join(done.Changed, " "),
		"needs_restart": strings.Join(done.NeedsRestart, " "),
		"failed":        strconv.Itoa(failed),
	}
	maps.Copy(fields, peopleFields(next))
	r.evidence.note(ledger.Configuration, fields)
}

// applyPeople applies who may do what, and whether the socket's group may reach it.
func applyPeople(apply func(string, bool, func() error, func()), socket string, old, next, c *config.Config) {
	nothing := func() error { return nil }
	was, is := &old.People, &c.People
	groups := func(p *config.People) [2][]config.Group { return [2][]config.Group{p.OperatorGroups, p.AuditorGroups} }
	apply("person", !reflect.DeepEqual(was.Persons, is.Persons), nothing, func() { next.People.Persons = is.Persons })
	apply("roles", !reflect.DeepEqual(groups(was), groups(is)), nothing,
		func() { next.People.OperatorGroups, next.People.AuditorGroups = is.OperatorGroups, is.AuditorGroups })
	apply("contact", !reflect.DeepEqual(old.Contacts, c.Contacts), nothing, func() { next.Contacts = c.Contacts })
	apply("disclose", old.Disclose != c.Disclose, nothing, func() { next.Disclose = c.Disclose })
	apply("agent.on_stop", old.Agent.OnStop != c.Agent.OnStop, nothing, func() { next.Agent.OnStop = c.Agent.OnStop })
	apply("agent.socket_group", old.Agent.SocketGroup != c.Agent.SocketGroup, func() error { return share(socket, c.Agent.SocketGroup) },
		func() { next.Agent.SocketGroup = c.Agent.SocketGroup })
}

// peopleFields say for the ledger how many may do what, and which of all
// configurations it is. They name nobody.
func peopleFields(c *config.Config) map[string]string {
	count := func(role config.Roles) string { return strconv.Itoa(len(c.People.With(role))) }
	text, err := json.Marshal(struct {
		People   config.People
		Contacts []config.Contact
		Disclose config.Disclose
	}{c.People, c.Contacts, c.Disclose})
	if err != nil {
		return nil // texts and numbers are always written
	}
	sum := sha256.Sum256(text)
	return map[string]string{
		"persons": strconv.Itoa(len(c.People.Persons)), "operators": count(config.Operator), "officers": count(config.Officer),
		"custodian_persons": count(config.Custodian), "auditors": count(config.Auditor), "approvals": strconv.Itoa(c.Disclose.Approvals),
		"people": hex.EncodeToString(sum[:]),
	}
}

// applyRADIUS applies what accounting may change. Secrets and certificates are
// read again, which is no news by itself.
func (r *Recorder) applyRADIUS(apply func(string, bool, func() error, func()), old, next, c *config.Config, out *Reloaded) {
	apply("radius.client", r.radius != nil && len(c.RADIUS.Listen) > 0,
		func() error { return r.radius.setClients(c.RADIUS.Clients) },
		func() { next.RADIUS.Clients = c.RADIUS.Clients })
	was, is := old.RADIUS.RadSec, c.RADIUS.RadSec
	is.Listen, is.Connections, is.Idle = was.Listen, was.Connections, was.Idle // need a restart
	apply("radius.radsec", r.radius != nil && len(was.Listen) > 0,
		func() error { return r.radius.setCredentials(&is) },
		func() { next.RADIUS.RadSec = is })
	same := map[string]bool{"radius.client": reflect.DeepEqual(old.RADIUS.Clients, c.RADIUS.Clients), "radius.radsec": reflect.DeepEqual(was, is)}
	out.Changed = slices.DeleteFunc(out.Changed, func(k string) bool { return same[k] })
	apply("radius.port_block", r.radius != nil && !reflect.DeepEqual(old.RADIUS.Blocks, c.RADIUS.Blocks),
		func() error { return r.radius.setTables(c) },
		func() { next.RADIUS.Blocks = c.RADIUS.Blocks })
	apply("place", r.radius != nil && !reflect.DeepEqual(old.Places, c.Places),
		func() error { return r.radius.setTables(c) },
		func() { next.Places = c.Places })
}

// obey reads the configuration again whenever it is asked to, until ctx ends.
// What is wrong with it changes nothing.
func (r *Recorder) obey(ctx context.Context) {
	for {
		select {
		case <-r.o.Hangup:
			r.readAgain(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func (r *Recorder) readAgain(ctx context.Context) {
	c, err := r.o.Load()
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			r.log.Error("the configuration was not read again; the old one stays in force", "error", strings.TrimSpace(line))
		}
		r.note(err)
		return
	}
	done, err := r.Reload(ctx, c)
	for _, what := range done.Changed {
		r.log.Info("configuration changed", "what", what)
	}
	for _, what := range done.NeedsRestart {
		r.log.Warn("a change of the configuration needs a restart of the agent", "what", what)
	}
	switch {
	case err != nil:
		r.log.Error("the configuration could not be applied wholly", "error", err)
		r.note(err)
	case len(done.Changed)+len(done.NeedsRestart) == 0:
		r.log.Info("the configuration says what it said before")
	}
}

func (r *Recorder) setUplinks(c *config.Config) error {
	if _, none := r.src.(noSource); none {
		return errors.New("the agent was started without uplinks; restart it")
	}
	return r.src.SetUplinks(uplinks(c))
}

func uplinks(c *config.Config) []probe.Uplink {
	out := make([]probe.Uplink, len(c.Uplinks))
	for i, u := range c.Uplinks {
		out[i] = probe.Uplink{Name: u.Name, Attach: u.Attach}
	}
	return out
}
