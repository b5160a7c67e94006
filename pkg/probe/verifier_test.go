package probe

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/edgelog/edgelog/pkg/session"
)

// What kernels allow, and how much of it is used at most: other versions count
// differently, and code grows.
const (
	verifierLimit  = 1_000_000              // BPF_COMPLEXITY_LIMIT_INSNS
	verifierBudget = verifierLimit * 6 / 10 // of it
	stackLimit     = 512                    // MAX_BPF_STACK, of a whole chain of calls
	stackUnit      = 32                     // to which Linux 6.1 rounds each frame up; newer ones to 16
)

// cost is what the verifier paid for a program; the kernels' tests read it.
type cost struct {
	Program      string `json:"program"`
	Instructions int    `json:"instructions"`
	States       int    `json:"states"`
	Peak         int    `json:"peak"`
	Stack        int    `json:"stack"`
}

var (
	processedLine = regexp.MustCompile(`processed (\d+) insns .*total_states (\d+) peak_states (\d+)`)
	stackLine     = regexp.MustCompile(`stack depth ([0-9+]+)`)
)

// variants of the knobs that the verifier sees different code with.
func variants() map[string]func(*Options, *knobs) {
	border := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	return map[string]func(*Options, *knobs){
		"all":     func(o *Options, _ *knobs) { o.Local = border },
		"source":  func(o *Options, _ *knobs) { o.Local, o.Profile = border, session.ProfileSource },
		"overlap": func(o *Options, _ *knobs) { o.Local, o.OverlappingAddresses = border, true },
		"raw":     func(o *Options, k *knobs) { o.Local, k.rawIP = border, true },
		"replay":  func(_ *Options, k *knobs) { k.testClock = true },
	}
}

func TestTheVerifierHasRoom(t *testing.T) {
	spec, err := loadSpec()
	if err != nil {
		t.Fatal(err)
	}
	size(spec, MinSlots, 4096)
	shared, err := createMaps(spec, session.ProfileSession, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer closeMaps(shared)
	dearest := map[string]cost{}
	for name, change := range variants() {
		o, k := Options{Profile: session.ProfileSession}.withDefaults(), knobs{verifier: ebpf.LogLevelStats}
		change(&o, &k)
		coll, err := loadPrograms(shared, &o, k, slices.Collect(maps.Keys(spec.Programs))...)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for program, p := range coll.Programs {
			c, err := costOf(p, spec.Programs[program].Instructions)
			if err != nil {
				t.Fatalf("%s: %s: %v", name, program, err)
			}
			d := dearest[program]
			dearest[program] = cost{program, max(c.Instructions, d.Instructions), max(c.States, d.States), max(c.Peak, d.Peak), max(c.Stack, d.Stack)}
		}
		coll.Close()
	}
	for _, program := range slices.Sorted(maps.Keys(dearest)) {
		c := dearest[program]
		line, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("verifier: %s", line)
		if c.Instructions >= verifierBudget {
			t.Errorf("%s: the verifier processes %d instructions, more than %d", program, c.Instructions, verifierBudget)
		}
		if c.Stack > stackLimit {
			t.Errorf("%s: the deepest chain of calls takes %d bytes of stack, more than %d", program, c.Stack, stackLimit)
		}
	}
}

// costOf reads the verifier's statistics and compares them with what the kernel
// says of the program.
func costOf(p *ebpf.Program, code asm.Instructions) (cost, error) {
	log := p.VerifierLog
	n, depths := processedLine.FindStringSubmatch(log), stackLine.FindStringSubmatch(log)
	if n == nil || depths == nil {
		return cost{}, fmt.Errorf("the verifier's statistics read %q", log)
	}
	var c cost
	for i, to := range []*int{&c.Instructions, &c.States, &c.Peak} {
		*to, _ = strconv.Atoi(n[i+1]) // digits
	}
	info, err := p.Info()
	if err != nil {
		return c, err
	}
	if v, ok := info.VerifiedInstructions(); ok && int(v) != c.Instructions {
		return c, fmt.Errorf("%d instructions by the log, %d by the program", c.Instructions, v)
	}
	c.Stack, err = deepest(code, strings.Split(depths[1], "+"))
	return c, err
}

// deepest adds up the frames of the deepest chain of calls. The verifier names
// the depth of each function in the order of the code.
func deepest(code asm.Instructions, depths []string) (int, error) {
	var order []string
	calls := map[string][]string{}
	for i := range code {
		if s := code[i].Symbol(); s != "" && (i == 0 || code[i].Symbol() != order[len(order)-1]) {
			order = append(order, s)
		}
		if code[i].IsFunctionCall() {
			in := order[len(order)-1]
			calls[in] = append(calls[in], code[i].Reference())
		}
	}
	frames := map[string]int{}
	for i, name := range order {
		if i >= len(depths) {
			return 0, fmt.Errorf("%d functions, but the verifier knows %d", len(order), len(depths))
		}
		depth, err := strconv.Atoi(depths[i])
		if err != nil {
			return 0, err
		}
		frames[name] = (max(depth, 1) + stackUnit - 1) / stackUnit * stackUnit
	}
	var sum func(name string) int
	sum = func(name string) (below int) { // there is no recursion in BPF
		for _, to := range calls[name] {
			below = max(below, sum(to))
		}
		return frames[name] + below
	}
	return sum(order[0]), nil
}
