package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/edgelog/edgelog/tests/kernels"
)

// take does one step and says what came of it.
func take(own *uplink, s kernels.Step) kernels.Event {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), s.Limit)
	defer cancel()
	e := kernels.Event{Step: s.Name, Verdict: kernels.Pass}
	if s.Uses != "" {
		runOwn(ctx, own, s, &e)
	} else {
		runTest(ctx, s, &e)
	}
	e.Seconds = time.Since(began).Seconds()
	return e
}

// grace is how long a step may take to notice that its time is over.
const grace = 30 * time.Second

// runOwn takes a step of this program. One that does not even end when its time
// is over has failed, and shows where it waits.
func runOwn(ctx context.Context, own *uplink, s kernels.Step, e *kernels.Event) {
	type result struct {
		detail string
		err    error
	}
	ended := make(chan result, 1)
	go func() { // ends with the step, or with the machine
		detail, err := own.take(ctx, s.Uses)
		ended <- result{detail, err}
	}()
	select {
	case r := <-ended:
		e.Detail = r.detail
		if r.err != nil {
			e.Verdict, e.Detail, e.Log = kernels.Fail, "see its log", r.err.Error()+"\n"+own.log()
		}
	case <-time.After(s.Limit + grace):
		stacks := make([]byte, 1<<16)
		e.Verdict, e.Detail, e.Log = kernels.Fail, "it hangs", string(stacks[:runtime.Stack(stacks, true)])
	}
}

// verdicts are the lines that a Go test prints for its top-level tests.
var verdicts = regexp.MustCompile(`(?m)^--- (PASS|SKIP|FAIL): (\S+)`)

// runTest runs a compiled test in a directory of its own.
func runTest(ctx context.Context, s kernels.Step, e *kernels.Event) {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, s.Command[0], append(s.Command[1:], "-test.v", "-test.timeout=0")...)
	cmd.Env = append(os.Environ(), s.Env...)
	cmd.Dir = "/tmp"
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	count := map[string][]string{}
	for _, m := range verdicts.FindAllStringSubmatch(out.String(), -1) {
		count[m[1]] = append(count[m[1]], m[2])
	}
	for line := range strings.Lines(out.String()) {
		if _, text, ok := strings.Cut(line, kernels.CostMark+"{"); ok {
			var c kernels.Cost
			err = errors.Join(err, json.Unmarshal([]byte("{"+text), &c))
			e.Costs = append(e.Costs, c)
		}
	}
	e.Detail = fmt.Sprintf("%d tests", len(count["PASS"]))
	if skipped := count["SKIP"]; len(skipped) > 0 {
		e.Detail += fmt.Sprintf(", skipped %s", strings.Join(skipped, " "))
	}
	if len(count["PASS"]) == 0 && err == nil {
		e.Verdict = kernels.Skip
	}
	if err != nil {
		e.Verdict, e.Detail = kernels.Fail, fmt.Sprintf("%v: %s", err, strings.Join(count["FAIL"], " "))
		e.Log = lastOf(out.String(), 20000)
	}
}

// lastOf is the end of a text.
func lastOf(s string, n int) string { return s[max(0, len(s)-n):] }
