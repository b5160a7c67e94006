package recorder

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"strings"
	"sync"

	"github.com/edgelog/edgelog/pkg/config"
	"github.com/edgelog/edgelog/pkg/identity/dhcp"
)

// leases hears of DHCP servers. A nil one hears nothing: its methods do
// nothing.
type leases struct{ service *dhcp.Service }

// hear runs the sources of access records until ctx ends. heard waits until all
// that they took is in the book.
func (r *Recorder) hear(ctx context.Context, spawn func(what string, run func() error)) (heard func()) {
	var wg sync.WaitGroup
	for what, run := range map[string]func(context.Context) error{"RADIUS accounting": r.radius.run, "DHCP leases": r.dhcp.run} {
		wg.Add(1)
		spawn(what, func() error { defer wg.Done(); return run(ctx) })
	}
	return wg.Wait
}

// openDHCP listens for reports. Nothing is read before Run.
func (r *Recorder) openDHCP() error {
	c := &r.o.Config.DHCP
	if len(c.Servers) == 0 {
		return nil
	}
	servers, err := DHCPServers(c)
	if err != nil {
		return err
	}
	s, err := dhcp.New(r.book, servers, dhcp.Options{
		Clock: r.o.Now, Logger: r.log, Subscriber: c.Subscriber, Join: dhcp.Join(c.JoinByMAC), Listen: c.Listen,
		Trouble: func(text string) { r.note(errors.New(text)) },
	})
	if err != nil {
		return err
	}
	r.onClose(s.Close)
	r.dhcp = &leases{s}
	return nil
}

// DHCPServers makes what the service needs of a configuration: it reads the
// login files and looks up users. A user that this machine does not have
// reports nothing.
func DHCPServers(c *config.DHCP) ([]dhcp.Server, error) {
	out := make([]dhcp.Server, len(c.Servers))
	for i := range c.Servers {
		s := &c.Servers[i]
		out[i] = dhcp.Server{
			Name: s.Name, Kind: dhcp.Kind(s.Kind), Leases4: s.Leases4, Leases6: s.Leases6,
			Control4: s.Control4, Control6: s.Control6, Reconcile: s.Reconcile,
		}
		if s.LoginFile != "" {
			login, err := config.ReadSecret(s.LoginFile)
			if err != nil {
				return nil, fmt.Errorf("DHCP server %q: %w", s.Name, err)
			}
			out[i].Login = strings.TrimSpace(string(login))
		}
		if c.Listen != "" && s.ReportUser != "none" {
			if uid, err := reporter(s.ReportUser); err == nil {
				out[i].ReportUsers = []uint32{0}
				if uid != 0 {
					out[i].ReportUsers = append(out[i].ReportUsers, uid)
				}
			} else if s.ReportUser != "_kea" { // the default on a machine without Kea
				return nil, fmt.Errorf("DHCP server %q: %w; name in report_user who runs its hook, or \"none\"", s.Name, err)
			} else {
				out[i].ReportUsers = []uint32{0}
			}
		}
	}
	return out, nil
}

// reporter returns the id of a user.
func reporter(name string) (uint32, error) {
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(n), nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 0, fmt.Errorf("there is no user %q", name)
	}
	n, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("user %q has no number: %w", name, err)
	}
	return uint32(n), nil
}

// run hears until ctx ends.
func (l *leases) run(ctx context.Context) error {
	if l == nil {
		return nil
	}
	return l.service.Run(ctx)
}

// set replaces the servers.
func (l *leases) set(c *config.DHCP) error {
	if l == nil {
		return errors.New("the agent was started without DHCP servers; restart it")
	}
	servers, err := DHCPServers(c)
	if err != nil {
		return err
	}
	l.service.Set(servers)
	return nil
}

// status returns nil when there is nothing to hear.
func (l *leases) status() *DHCPStatus {
	if l == nil {
		return nil
	}
	return &DHCPStatus{Stats: l.service.Stats()}
}

// DHCPStatus says how the hearing of DHCP servers fares.
type DHCPStatus struct{ dhcp.Stats }

// sums are the balances that its counters must keep. Each server's are read
// under one lock, but for files, of which the last look counts.
func (s *DHCPStatus) sums() (out []Sum) {
	for i := range s.Servers {
		x := &s.Servers[i]
		var notTaken uint64
		for _, n := range x.NotTaken {
			notTaken += n
		}
		out = append(out, Sum{
			Text: fmt.Sprintf("dhcp %s: records %d = news %d + known %d", x.Name, x.Records, x.News, x.Known),
			Left: x.Records, Right: x.News + x.Known,
		}, Sum{
			Text: fmt.Sprintf("dhcp %s: events %d = durable %d + waiting %d + refused %d", x.Name, x.Events, x.Applied, x.Waiting, x.Refused),
			Left: x.Events, Right: x.Applied + x.Waiting + x.Refused,
		}, Sum{
			Text: fmt.Sprintf("dhcp %s: reports %d = taken %d + not taken %d + under way %d", x.Name, x.Reports, x.Taken, notTaken, x.UnderWay),
			Left: x.Reports, Right: x.Taken + notTaken + x.UnderWay,
		})
		for j := range x.Files {
			f := &x.Files[j]
			var faulty uint64
			for _, n := range f.Faulty {
				faulty += n
			}
			out = append(out, Sum{
				Text: fmt.Sprintf("dhcp %s: file %d: read %d = used %d + skipped %d + faulty %d", x.Name, j+1, f.Read, f.Used, f.Skipped, faulty),
				Left: f.Read, Right: f.Used + f.Skipped + faulty,
			})
		}
	}
	return out
}
