package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFlagsMayStandBehindTheWords(t *testing.T) {
	for line, want := range map[string]string{
		"edgelog replay a.pcap --json":                       "edgelog replay --json -- a.pcap",
		"edgelog replay --json a.pcap":                       "edgelog replay --json -- a.pcap",
		"edgelog replay a.pcap --local 10.0.0.0/8 --json":    "edgelog replay --local 10.0.0.0/8 --json -- a.pcap",
		"edgelog replay --local=10.0.0.0/8 a.pcap -slots 64": "edgelog replay --local=10.0.0.0/8 -slots 64 -- a.pcap",
		"edgelog replay a.pcap --unknown b.pcap":             "edgelog replay --unknown -- a.pcap b.pcap",
		"edgelog replay --json -- --json":                    "edgelog replay --json -- --json",
		"edgelog replay - --local":                           "edgelog replay --local -- -",
		"edgelog status --socket k --json":                   "edgelog status --socket k --json",
		"edgelog replay":                                     "edgelog replay",
		"edgelog":                                            "edgelog",
	} {
		if d := cmp.Diff(strings.Fields(want), flagsFirst(strings.Fields(line), commands())); d != "" {
			t.Errorf("%s (-want +got):\n%s", line, d)
		}
	}
}

func TestReplayInEitherOrderOfWords(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("loading the programs needs root")
	}
	captures, err := filepath.Glob("../../../shared/testdata/open/*.pcap")
	if err != nil || len(captures) == 0 {
		t.Skipf("no captures beside the checkout: %v", err)
	}
	h := &house{t: t}
	before, errs, code := h.run("replay", "--json", "--slots", "65536", captures[0])
	if code != 0 {
		t.Fatalf("%d %s", code, errs)
	}
	after, errs, code := h.run("replay", captures[0], "--json", "--slots", "65536")
	if code != 0 || after != before || before == "" {
		t.Errorf("%d %s (-flags first +flags last):\n%s", code, errs, cmp.Diff(before, after))
	}
	for line := range strings.Lines(after) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
}
