package metrics

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgelog/edgelog/pkg/measure"
	"github.com/edgelog/edgelog/pkg/probe"
	"github.com/edgelog/edgelog/pkg/recorder"
)

// collector turns a status into metrics when it is asked.
type collector struct {
	status func() *recorder.Status
	o      Options
	byPath map[string]shown
	words  derived

	mu   sync.Mutex // guards the two below, and that one status is asked for at a time
	last *recorder.Status
	at   time.Time
	took time.Duration
}

// shown is a name with its description.
type shown struct {
	name
	desc *prometheus.Desc
}

// derived are the metrics that are made from words and times of a status.
type derived struct {
	info, start, recording, balanced, attached, disk, lastError, lastBlock, breachDue, age, took *prometheus.Desc
}

func newCollector(status func() *recorder.Status, o Options) *collector {
	c := &collector{status: status, o: o, byPath: map[string]shown{}}
	descs := map[string]*prometheus.Desc{}
	for _, n := range allNames() {
		if descs[n.metric] == nil {
			labels := slices.Clone(n.labels)
			for _, f := range n.fixed {
				labels = append(labels, f[0])
			}
			descs[n.metric] = prometheus.NewDesc(n.metric, n.help, labels, nil)
		}
		c.byPath[n.path] = shown{n, descs[n.metric]}
	}
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	c.words = derived{
		info:      d("edgelog_info", "Always 1; what runs here.", "version", "gateway", "profile"),
		start:     d("edgelog_start_time_seconds", "When the agent started, since 1970."),
		recording: d("edgelog_recording", "1 when the agent records, 0 while it starts or stops."),
		balanced:  d("edgelog_balanced", "1 when all counters add up; 0 is a fault of edgelog itself."),
		attached:  d("edgelog_uplink_attached", "1 when a direction of an uplink is watched, and how.", "uplink", "direction", "mode"),
		disk:      d("edgelog_disk_state", "1 for the state that the disk is in: ok, low, stopped, stalled, failed.", "state"),
		lastError: d("edgelog_last_error_time_seconds", "When the last error was met, since 1970; 0: never. The status has its text."),
		lastBlock: d("edgelog_last_block_time_seconds", "When the last block of sessions was stored, since 1970; 0: none since the start."),
		breachDue: d("edgelog_breach_next_due_time_seconds", "When the next notification of a breach of personal data is due, since 1970; 0: none is."),
		age:       d("edgelog_status_age_seconds", "How old these numbers are."),
		took:      d("edgelog_status_gathering_seconds", "How long it took to gather them."),
	}
	return c
}

func allNames() []name { return slices.Concat(names, bindingNames, natNames, dhcpNames) }

// Describe sends all descriptions.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	sent := map[*prometheus.Desc]bool{}
	for _, s := range c.byPath {
		if !sent[s.desc] {
			sent[s.desc] = true
			ch <- s.desc
		}
	}
	w := &c.words
	for _, d := range []*prometheus.Desc{w.info, w.start, w.recording, w.balanced, w.attached, w.disk, w.lastError, w.lastBlock, w.breachDue, w.age, w.took} {
		ch <- d
	}
}

// Collect sends the numbers of a status that is at most MinAge old.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.o.Now(); c.last == nil || now.Sub(c.at) >= c.o.MinAge || now.Before(c.at) {
		c.last = c.status()
		c.at = c.o.Now()
		c.took = c.at.Sub(now)
	}
	c.walk(ch, "", reflect.ValueOf(c.last), nil)
	c.derive(ch, c.last)
	ch <- prometheus.MustNewConstMetric(c.words.age, prometheus.GaugeValue, max(c.o.Now().Sub(c.at), 0).Seconds())
	ch <- prometheus.MustNewConstMetric(c.words.took, prometheus.GaugeValue, max(c.took, 0).Seconds())
}

var (
	readingType = reflect.TypeFor[measure.Reading]()
	timeType    = reflect.TypeFor[time.Time]()
)

// walk goes through a status as its JSON would be written, and sends what has
// a name.
func (c *collector) walk(ch chan<- prometheus.Metric, path string, v reflect.Value, labels []string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			c.walk(ch, path, v.Elem(), labels)
		}
	case reflect.Struct:
		if v.Type() == readingType || v.Type() == timeType {
			c.send(ch, path, v, labels)
			return
		}
		for i := range v.NumField() {
			if sub, ok := below(path, v.Type().Field(i)); ok {
				c.walk(ch, sub, v.Field(i), labels)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			c.walk(ch, path+"[]", v.Index(i), append(slices.Clip(labels), elementLabel(v.Index(i), i)))
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			c.walk(ch, path+"{}", it.Value(), append(slices.Clip(labels), it.Key().String()))
		}
	default:
		c.send(ch, path, v, labels)
	}
}

// below returns the path of a field, that of its struct for one that is
// embedded, and false for one that JSON does not show.
func below(path string, f reflect.StructField) (string, bool) {
	tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	switch {
	case tag == "-" || !f.IsExported():
		return "", false
	case tag == "" && f.Anonymous:
		return path, true
	case tag == "":
		tag = f.Name
	}
	return strings.TrimPrefix(path+"."+tag, "."), true
}

// elementLabel tells the elements of a list apart: uplinks by the name of the
// interface, all others by their place, because their names may be addresses.
func elementLabel(v reflect.Value, i int) string {
	switch u := v.Interface().(type) {
	case probe.UplinkStatus:
		return u.Name
	case recorder.UplinkCoverage:
		return u.Uplink
	}
	return strconv.Itoa(i + 1)
}

func (c *collector) send(ch chan<- prometheus.Metric, path string, v reflect.Value, labels []string) {
	n, ok := c.byPath[path]
	if !ok {
		return
	}
	for _, f := range n.fixed {
		labels = append(slices.Clip(labels), f[1])
	}
	if n.kind == histogram {
		r := v.Interface().(measure.Reading)
		sums, have := make(map[float64]uint64, len(r.Bounds)), uint64(0)
		for i, b := range r.Bounds {
			have += r.Counts[i]
			sums[b] = have
		}
		ch <- prometheus.MustNewConstHistogram(n.desc, r.Count(), r.Sum, sums, labels...)
		return
	}
	value, _ := number(v)
	if n.scale != 0 {
		value *= n.scale
	}
	kind := prometheus.GaugeValue
	if n.kind == counter {
		kind = prometheus.CounterValue
	}
	ch <- prometheus.MustNewConstMetric(n.desc, kind, value, labels...)
}

// number returns the value of anything that is a number, or is true or false.
func number(v reflect.Value) (float64, bool) {
	switch {
	case v.CanInt():
		return float64(v.Int()), true
	case v.CanUint():
		return float64(v.Uint()), true
	case v.CanFloat():
		return v.Float(), true
	case v.Kind() == reflect.Bool:
		return one(v.Bool()), true
	}
	return 0, false
}

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// diskStates are the states of a recorder.StoreStatus.
var diskStates = []string{"ok", "low", "stopped", "stalled", "failed"}

// derive sends what is made from words and times.
func (c *collector) derive(ch chan<- prometheus.Metric, s *recorder.Status) {
	w := &c.words
	send := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	send(w.info, 1, s.Version, s.Gateway, s.Profile)
	send(w.start, seconds(s.Started))
	send(w.recording, one(strings.HasPrefix(s.State, "recording")))
	send(w.balanced, one(s.Balance() == nil))
	for _, state := range diskStates {
		send(w.disk, one(s.Store.State == state), state)
	}
	var met time.Time
	if s.LastError != nil {
		met = s.LastError.At
	}
	send(w.lastError, seconds(met))
	send(w.lastBlock, seconds(s.Sessions.Last))
	if s.Breaches != nil {
		send(w.breachDue, seconds(s.Breaches.NextDue))
	}
	if s.Probe == nil {
		return
	}
	for i := range s.Probe.Uplinks {
		u := &s.Probe.Uplinks[i]
		for direction, a := range map[string]*probe.AttachStatus{"in": &u.Ingress, "out": &u.Egress} {
			mode := a.Mode
			if mode == "" {
				mode = "none"
			}
			send(w.attached, one(mode != "none"), u.Name, direction, mode)
		}
	}
}

// seconds since 1970, 0 for no time.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1e3
}
