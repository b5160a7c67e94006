package kernels

import (
	"errors"
	"path/filepath"
	"testing"
)

// TestEveryKernelLoadsAttachesAndRecords takes the short steps on each kernel,
// in two guests at once; "make test-kernels" takes all steps.
func TestEveryKernelLoadsAttachesAndRecords(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	all, err := Fetch(t.Context(), root)
	if errors.Is(err, ErrNoKernels) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	programs, err := Build(t.Context(), root, dir, Short())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range all {
		t.Run(k.Series, func(t *testing.T) {
			t.Parallel()
			r, err := Boot(t.Context(), dir, k, programs, Short(), nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range r.Events {
				t.Logf("%s: %s: %s, %s (%.0f s)", k.Release, e.Step, e.Verdict, e.Detail, e.Seconds)
			}
			if err := r.Failed(); err != nil {
				t.Error(err)
			}
			if len(r.Costs()) < 5 {
				t.Errorf("the verifier told the cost of %d programs, there are 5 at least", len(r.Costs()))
			}
		})
	}
}

func TestAStepThatTheGuestDidNotReachHasFailed(t *testing.T) {
	r := &Run{Console: "Kernel panic", Events: []Event{{Step: "attach", Verdict: Pass}}}
	r.complete(Short(), nil)
	if len(r.Events) != len(Short()) {
		t.Fatalf("%d events for %d steps", len(r.Events), len(Short()))
	}
	if err := r.Failed(); err == nil {
		t.Error("a guest that died has not failed")
	}
	if r.Verdict("attach") != Pass || r.Verdict("drain") != Fail {
		t.Errorf("%+v", r.Events)
	}
}

// A module's dependencies are loaded before it.
func TestModulesAreLoadedAfterWhatTheyNeed(t *testing.T) {
	all, err := Fetch(t.Context(), filepath.Join("..", ".."))
	if errors.Is(err, ErrNoKernels) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range all {
		set, err := findModules(k.Modules)
		if err != nil {
			t.Fatal(err)
		}
		if err := set.need("virtio_net"); err != nil {
			t.Fatal(err)
		}
		place := map[string]int{}
		for i, name := range set.order {
			place[name] = i
		}
		if n := len(set.order); place["virtio_net"] != n-1 || n < 2 {
			t.Errorf("%s: virtio_net is not the last of %q", k.Release, set.order)
		}
		if place["failover"] >= place["net_failover"] {
			t.Errorf("%s: %q", k.Release, set.order)
		}
	}
}
