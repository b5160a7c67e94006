package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/edgelog/edgelog/pkg/recorder"
)

// natTroubles lists what is wrong with the following of translations.
func natTroubles(s *recorder.Status) (out []string) {
	n := s.NAT
	if n == nil {
		return nil
	}
	add := func(is bool, format string, args ...any) {
		if is {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	if k := n.Kernel; k != nil {
		add(k.Resync && k.Overruns > 0, "conntrack events were LOST: its table is being read again")
		add(k.Overruns > 0 && !k.Resync, "conntrack events were lost %s since the start: raise nat.receive_buffer", times(k.Overruns))
		add(k.Listings == 0 && k.Failures > 0 || k.Listings > 0 && k.Failures >= k.Listings, "the table of conntrack CANNOT BE READ: see the log and \"edgelog doctor\"")
	}
	if x := n.IPFIX; x != nil {
		add(x.Lost > 0, "%s of other translators lost on the way", plural(x.Lost, "record"))
		add(x.NotKept > 0, "%s could not be kept", plural(x.NotKept, "port block"))
		add(x.Waiting > 0, "%s of IPFIX wait for a template: the translator sends it now and then", plural(x.Waiting, "set"))
	}
	add(n.Table.ForgottenEarly > 0 || n.Table.Refused > 0, "%s forgotten too early: raise nat.translations", plural(n.Table.ForgottenEarly+n.Table.Refused, "translation"))
	add(n.Table.Lost > 0, "%s of translations LOST: the disk was too late", plural(n.Table.Lost, "access record"))
	return out
}

func times(n uint64) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// printNAT says what is known of translations.
func printNAT(w io.Writer, n *recorder.NATStatus) {
	if n == nil {
		return
	}
	t := &n.Table
	what := fmt.Sprintf("%d sessions joined, %d fitted two and stay without", t.Joined, t.Ambiguous)
	if n.Access {
		what = plural(n.Records, "access record")
	}
	fmt.Fprintf(w, "nat        %s; %s going on, %d ended and remembered, %d forgotten too early\n", what,
		plural(uint64(t.Open), "translation"), t.Kept, t.ForgottenEarly+t.Refused)
	if k := n.Kernel; k != nil {
		times := "exact times"
		if !n.Exact {
			times = "times as heard"
		}
		fmt.Fprintf(w, "conntrack  %d events and entries, %d untranslated, %d hairpins or forwarded, %d to foreign addresses; %s; %d overruns, table read %d times\n",
			k.Messages, k.Untranslated, k.Hairpins, k.Outside, times, k.Overruns, k.Listings)
	}
	if x := n.IPFIX; x != nil {
		fmt.Fprintf(w, "ipfix      on %s: %d datagrams, %d of strangers, %d malformed; %d sessions, %d port blocks, %d other events, %d unusable, %d lost on the way\n",
			strings.Join(n.Listen, ", "), x.Datagrams, x.Strangers, x.Malformed, x.Sessions, x.Blocks, x.Other, x.Unusable, x.Lost)
	}
	if n.Rules > 0 {
		fmt.Fprintf(w, "nat rules  %d\n", n.Rules)
	}
}
