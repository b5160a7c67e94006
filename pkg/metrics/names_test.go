package metrics

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/edgelog/edgelog/pkg/recorder"
)

// numbers returns the paths of all numbers that a status can hold, as walk
// names them.
func numbers(t reflect.Type, path string, into map[string]reflect.Type) {
	switch t.Kind() {
	case reflect.Pointer:
		numbers(t.Elem(), path, into)
	case reflect.Struct:
		if t == readingType {
			into[path] = t
			return
		}
		if t == timeType {
			return
		}
		for i := range t.NumField() {
			if sub, ok := below(path, t.Field(i)); ok {
				numbers(t.Field(i).Type, sub, into)
			}
		}
	case reflect.Slice:
		numbers(t.Elem(), path+"[]", into)
	case reflect.Map:
		numbers(t.Elem(), path+"{}", into)
	default:
		if _, ok := number(reflect.Zero(t)); ok {
			into[path] = t
		}
	}
}

func TestEachNumberOfTheStatusHasAMetricOrAReasonWhyNot(t *testing.T) {
	all := map[string]reflect.Type{}
	numbers(reflect.TypeFor[recorder.Status](), "", all)
	if len(all) < 80 {
		t.Fatalf("only %d numbers were found", len(all))
	}
	shown := map[string]bool{}
	for _, n := range allNames() {
		if shown[n.path] {
			t.Errorf("%s is shown twice", n.path)
		}
		shown[n.path] = true
		if all[n.path] == nil {
			t.Errorf("%s is shown as %s, but no status has it", n.path, n.metric)
		}
		if (n.kind == histogram) != (all[n.path] == readingType) {
			t.Errorf("%s is shown as the wrong kind", n.path)
		}
	}
	for path := range all {
		reason := notShown[path]
		switch {
		case shown[path] && reason != "":
			t.Errorf("%s has a metric and a reason why it has none", path)
		case !shown[path] && reason == "":
			t.Errorf("%s has no metric: give it a line in names.go, or a reason in notShown", path)
		}
	}
	for path := range notShown {
		if all[path] == nil {
			t.Errorf("notShown names %s, which no status has", path)
		}
	}
}

func TestNamesFollowTheCustomOfPrometheus(t *testing.T) {
	help := map[string]string{}
	for _, n := range allNames() {
		if !strings.HasPrefix(n.metric, "edgelog_") {
			t.Errorf("%s does not begin with edgelog_", n.metric)
		}
		if (n.kind == counter) != strings.HasSuffix(n.metric, "_total") {
			t.Errorf("%s: counters, and nothing else, end in _total", n.metric)
		}
		if want := strings.Count(n.path, "[]") + strings.Count(n.path, "{}"); len(n.labels) != want {
			t.Errorf("%s has %d labels for %d lists and maps", n.path, len(n.labels), want)
		}
		if n.help == "" && help[n.metric] == "" {
			t.Errorf("%s is not explained", n.metric)
		}
		help[n.metric] += n.help
		if n.scale != 0 && !strings.HasSuffix(n.metric, "_seconds") {
			t.Errorf("%s is converted, and not to seconds", n.metric)
		}
		for _, l := range n.labels {
			if !slices.Contains([]string{"uplink", "outcome", "reason", "kind", "remark", "client", "server", "file", "witness"}, l) {
				t.Errorf("%s has the label %s: is its number of values bounded, and is none a person's?", n.metric, l)
			}
		}
	}
}
