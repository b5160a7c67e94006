package tests

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/edgelog/edgelog/pkg/capture"
)

// captures returns the folder of real captures that is kept beside the
// checkout, with its list of those that end in the pattern.
func captures(t *testing.T, pattern string) (dir string, names []string) {
	t.Helper()
	dir, err := filepath.Abs("../../shared/testdata")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("the captures are not beside this checkout: %s is missing", dir)
	}
	names, err = filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	if len(names) == 0 {
		t.Fatalf("%s holds no %s", dir, pattern)
	}
	return dir, names
}

// replay runs "edgelog replay" without any network and returns both outputs.
func replay(t *testing.T, name string, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	cmd := exec.CommandContext(limited(t), binary, append(append([]string{"replay", "--json"}, args...), name)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("edgelog replay %s: %v: %s", filepath.Base(name), err, errs.String())
	}
	return out.String(), errs.String()
}

// judge runs the judge of the captures on a list of sessions in JSON Lines.
func judge(t *testing.T, truth, sessions string, args ...string) {
	t.Helper()
	list := filepath.Join(t.TempDir(), "sessions.jsonl")
	if err := os.WriteFile(list, []byte(sessions), 0o600); err != nil {
		t.Fatal(err)
	}
	dir, _ := captures(t, "compare.py")
	args = append([]string{filepath.Join(dir, "compare.py"), truth, list}, args...)
	out, err := exec.CommandContext(limited(t), "python3", args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v:\n%s", filepath.Base(truth), err, out)
	}
}

func TestEachCaptureReplayedAgreesWithItsTruth(t *testing.T) {
	_, names := captures(t, "open/*.pcap")
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".pcap"), func(t *testing.T) {
			t.Parallel()
			out, counters := replay(t, name)
			judge(t, strings.TrimSuffix(name, ".pcap")+".sessions.tsv", out)
			countedAll(t, name, counters)
		})
	}
}

func TestEachFrameOfAHostileCaptureIsCounted(t *testing.T) {
	_, names := captures(t, "open/robust/*.pcap")
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".pcap"), func(t *testing.T) {
			t.Parallel()
			_, counters := replay(t, name)
			countedAll(t, name, counters)
		})
	}
}

var replaySum = regexp.MustCompile(`(?m)^frames (\d+) = ingress (\d+) \+ egress (\d+) \+ too short for a link (\d+)$`)

// countedAll compares the frames that the replay counted with those that the
// capture holds.
func countedAll(t *testing.T, name, counters string) {
	t.Helper()
	m := replaySum.FindStringSubmatch(counters)
	if m == nil {
		t.Fatalf("the replay ends without its counters:\n%s", counters)
	}
	var n [4]int
	for i := range n {
		n[i], _ = strconv.Atoi(m[i+1]) // the pattern has digits
	}
	held, err := frames(name)
	if err != nil && !errors.Is(err, capture.ErrCutShort) {
		t.Fatal(err)
	}
	if n[0] != len(held) || n[0] != n[1]+n[2]+n[3] {
		t.Errorf("the capture holds %d frames, the replay says: %s", len(held), m[0])
	}
}

// frame is one frame of a capture that is kept.
type frame struct {
	data []byte
	at   int64 // ns since 1970
}

// frames reads a whole capture.
func frames(name string) ([]frame, error) {
	in, err := capture.Open(name)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	var out []frame
	for {
		f, err := in.Next()
		if err != nil {
			if errors.Is(err, capture.ErrCutShort) {
				return out, fmt.Errorf("%s: %w", filepath.Base(name), err)
			}
			return out, nil // the end: a capture that cannot be read has failed the replay before
		}
		out = append(out, frame{append([]byte(nil), f.Data...), f.At})
	}
}
