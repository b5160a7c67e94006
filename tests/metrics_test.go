package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/edgelog/edgelog/tests/gateway"
)

const scrapeURL = "http://127.0.0.1:9477/metrics"

// scrapable has the agent show its metrics on a loopback address.
func scrapable() map[string]string {
	return map[string]string{`listen = ""`: `listen = "127.0.0.1:9477"`, "half_open =": `half_open = "1s"`, "linger =": `linger = "100ms"`}
}

func promtool(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed (Debian: prometheus)")
	}
	return path
}

func TestTheAgentIsScrapedWhileItRecords(t *testing.T) {
	edit := scrapable()
	edit["witness ="] = fmt.Sprintf("witness = [%q]", "file:"+filepath.Join(t.TempDir(), "checkpoints"))
	g := start(t, gateway.Options{Edit: edit})
	ctx := limited(t)
	w := newCrowd(t, g, 8080)
	callAndCheck(ctx, t, g, w, 50)
	text, err := g.Gateway().Run(ctx, "curl", "--silent", "--fail", scrapeURL)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`edgelog_uplink_attached{direction="in",mode="xdp",uplink="uplink"} 1`, "edgelog_recording 1\n", "edgelog_balanced 1\n", "edgelog_store_ok 1\n",
		"edgelog_radius_requests_total 0\n", "edgelog_custodians 1\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in the scrape:\n%s", want, text)
		}
	}
	if !regexp.MustCompile(`edgelog_store_commit_seconds_count [1-9]`).MatchString(text) {
		t.Error("no write was measured")
	}
	for _, secret := range []string{g.Subscribers[0].Addr4.String(), g.Server4.String(), g.Subscribers[0].Addr6.String(), "127.0.0.1"} {
		if strings.Contains(text, secret) {
			t.Errorf("the scrape names %s", secret)
		}
	}
	t.Run("and promtool finds nothing to complain of", func(t *testing.T) {
		cmd := exec.CommandContext(ctx, promtool(t), "check", "metrics")
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%v\n%s", err, out)
		}
	})
	t.Run("and has all that dashboard and alerts ask for", func(t *testing.T) { askedForIsThere(t, text) })
	// A second agent of another gateway could not have the address: it must say so.
	other := filepath.Join(t.TempDir(), "other.toml")
	conf, err := os.ReadFile(g.Config)
	if err != nil {
		t.Fatal(err)
	}
	text2 := regexp.MustCompile(`(?m)^(data_dir|run_dir) = "(.*)"`).ReplaceAllString(string(conf), `$1 = "$2-other"`)
	if err := os.WriteFile(other, []byte(text2), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := g.Gateway().Run(ctx, binary, "agent", "--config", other)
	if err == nil || !strings.Contains(err.Error()+out, `listen for metrics on "127.0.0.1:9477": address already in use`) {
		t.Errorf("%v\n%s", err, out)
	}
	if err := g.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Gateway().Run(ctx, "curl", "--silent", "--fail", scrapeURL); err == nil {
		t.Error("it is scraped after its end")
	}
}

var metricName = regexp.MustCompile(`\b(edgelog|process|go)_[a-z0-9_]+\b`)

// askedForIsThere checks each metric that the dashboard and the rules name.
func askedForIsThere(t *testing.T, scrape string) {
	t.Helper()
	have := map[string]bool{}
	for line := range strings.Lines(scrape) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "#" && f[1] == "TYPE" {
			have[f[2]] = true
		}
	}
	for _, file := range []string{"../scripts/prometheus/edgelog.rules.yml", "../scripts/prometheus/edgelog.rules.test.yml", "../scripts/grafana/edgelog.json"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		names := metricName.FindAllString(string(text), -1)
		if len(names) < 20 {
			t.Errorf("%s asks for only %d metrics", file, len(names))
		}
		slices.Sort(names)
		for _, name := range slices.Compact(names) {
			if !have[name] && !have[strings.TrimSuffix(name, "_bucket")] {
				t.Errorf("%s asks for %s, which is not in the scrape", file, name)
			}
		}
	}
}

func TestTheAlertsFireWhenTheyShould(t *testing.T) {
	const dir = "../scripts/prometheus"
	tool := promtool(t)
	for _, args := range [][]string{{"check", "rules", "edgelog.rules.yml"}, {"test", "rules", "edgelog.rules.test.yml"}} {
		cmd := exec.CommandContext(t.Context(), tool, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	rules, err := os.ReadFile(filepath.Join(dir, "edgelog.rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile(filepath.Join(dir, "edgelog.rules.test.yml"))
	if err != nil {
		t.Fatal(err)
	}
	alerts := regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(string(rules), -1)
	if len(alerts) < 20 {
		t.Fatalf("%d alerts", len(alerts))
	}
	for _, a := range alerts {
		if !strings.Contains(string(tests), `ALERTS{alertname="`+a[1]+`", alertstate="firing"}`) {
			t.Errorf("%s has no test", a[1])
		}
	}
}

func TestTheDashboardIsWhole(t *testing.T) {
	text, err := os.ReadFile("../scripts/grafana/edgelog.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Title  string
		Panels []struct {
			ID          int
			Type, Title string
			Description string
			Targets     []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, p := range d.Panels {
		if seen[p.ID] || p.Title == "" || p.Type != "row" && (len(p.Targets) == 0 || p.Description == "") {
			t.Errorf("panel %d %q is not whole", p.ID, p.Title)
		}
		seen[p.ID] = true
	}
	if d.Title != "edgelog" || len(seen) < 20 {
		t.Errorf("%q with %d panels", d.Title, len(seen))
	}
}
