package kernels

import "time"

// Verdict says how a step ended.
type Verdict string

// The verdicts, best first.
const (
	Pass Verdict = "pass"
	Skip Verdict = "skip"
	Fail Verdict = "FAIL"
)

// Event is what the guest says of one step, one line of JSON.
type Event struct {
	Step    string  `json:"step"`
	Verdict Verdict `json:"verdict"`
	Seconds float64 `json:"seconds"`        // in the guest's own, emulated time
	Detail  string  `json:"detail"`         // what was found, or why it was skipped, in a few words
	Log     string  `json:"log,omitempty"`  // the end of what a failed step printed
	Costs   []Cost  `json:"costs,omitzero"` // what the verifier said
}

// Cost is what the verifier of a kernel paid for a program, in its dearest
// variant.
type Cost struct {
	Program      string `json:"program"`
	Instructions int    `json:"instructions"` // processed; a kernel gives up at 1,000,000
	States       int    `json:"states"`       // in all
	Peak         int    `json:"peak"`         // states at once
	Stack        int    `json:"stack"`        // bytes of the deepest chain of calls, frames rounded up to 32; at most 512
}

// Step is one thing to do in a guest.
type Step struct {
	Name string `json:"name"`
	// Uses names a step of the guest program's own; "" when Command is run.
	Uses    string        `json:"uses,omitempty"`
	Command []string      `json:"command,omitempty"` // a compiled test and its flags, without -test.v
	Env     []string      `json:"env,omitempty"`
	Limit   time.Duration `json:"limit"` // a bound for a hang
}

// Plan is what a guest is to do.
type Plan struct {
	Modules []string `json:"modules"` // files, in the order in which they are loaded
	Steps   []Step   `json:"steps"`
}

// Where things are in a guest.
const (
	PlanFile = "/etc/plan.json"
	Agent    = "/bin/edgelog"
	Results  = "/dev/ttyS1"
)

// CostMark begins a line of a test's output that holds a Cost in JSON.
const CostMark = "verifier: "
