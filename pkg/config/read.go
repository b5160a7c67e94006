package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// reader collects the problems of one file.
type reader struct {
	path     string
	where    places
	problems []Problem
	unread   map[string]bool // keys whose value did not fit; nil while reading
}

// table is one section of the file. Its methods take a key, leave *into alone
// when the key is absent, and note a problem when the value does not fit.
type table struct {
	r     *reader
	name  string // "" for the top
	m     map[string]any
	asked []string
}

func (r *reader) table(name string, m map[string]any) *table { return &table{r: r, name: name, m: m} }

func (t *table) key(key string) string { return join(t.name, key) }

// get returns the value of key, and remembers that somebody asked for it.
func (t *table) get(key string) (any, bool) {
	t.asked = append(t.asked, key)
	v, ok := t.m[key]
	return v, ok
}

func (t *table) wrong(key, want string, v any) {
	t.r.add(t.key(key), "must be "+want+", not "+kind(v), "")
}

// done notes every key that nobody asked for.
func (t *table) done() {
	for key := range t.m {
		if slices.Contains(t.asked, key) {
			continue
		}
		remedy := "known here: " + strings.Join(t.asked, ", ")
		if near := Nearest(key, t.asked); near != "" {
			remedy = fmt.Sprintf("did you mean %q?", near)
		}
		t.r.add(t.key(key), "is not a known key", remedy)
	}
}

// sub returns the section of that name, an empty one when it is absent.
func (t *table) sub(key string) *table {
	v, ok := t.get(key)
	m, isTable := v.(map[string]any)
	if ok && !isTable {
		t.r.add(t.key(key), "must be a section, not "+kind(v), "write ["+t.key(key)+"]")
	}
	return t.r.table(t.key(key), m)
}

// subs returns the sections of an array of tables.
func (t *table) subs(key string) []*table {
	v, ok := t.get(key)
	if !ok {
		return nil
	}
	var list []map[string]any
	switch v := v.(type) {
	case []map[string]any:
		list = v
	case []any: // uplink = [{name = "a"}, …]
		for _, e := range v {
			m, isTable := e.(map[string]any)
			if !isTable {
				t.r.add(t.key(key), "must be a list of sections, not "+kind(v), "write [["+t.key(key)+"]]")
				return nil
			}
			list = append(list, m)
		}
	default:
		t.r.add(t.key(key), "must be a list of sections, not "+kind(v), "write [["+t.key(key)+"]] with two brackets")
		return nil
	}
	out := make([]*table, len(list))
	for i, m := range list {
		out[i] = t.r.table(element(t.key(key), i), m)
	}
	return out
}

func (t *table) str(key string, into *string) {
	v, ok := t.get(key)
	if !ok {
		return
	}
	s, isString := v.(string)
	if !isString {
		t.wrong(key, "a text in quotes", v)
		return
	}
	*into = s
}

func (t *table) word(key string, into *string, allowed ...string) {
	s := *into
	t.str(key, &s)
	if !slices.Contains(allowed, s) {
		t.r.add(t.key(key), quoted(s)+" is not known", "use "+strings.Join(allowed, ", "))
		return
	}
	*into = s
}

func (t *table) profile(key string, into *session.Profile) {
	s := into.String()
	t.str(key, &s)
	p, err := session.ParseProfile(s)
	if err != nil {
		t.r.add(t.key(key), quoted(s)+" is not known", "use access, source, session or sample500")
		return
	}
	*into = p
}

// path makes the value absolute, from the folder of the file.
func (t *table) path(key string, into *string) {
	s := *into
	t.str(key, &s)
	_, given := t.m[key]
	switch {
	case given && s == "":
		t.r.add(t.key(key), "is empty", "give a path, or take the line out")
		return
	case strings.ContainsRune(s, 0):
		t.r.add(t.key(key), "holds a zero byte", "give a path")
		return
	case s != "" && !filepath.IsAbs(s):
		s = filepath.Join(filepath.Dir(t.r.path), s)
	}
	*into = s
}

func (t *table) strs(key string, into *[]string) {
	v, ok := t.get(key)
	if !ok {
		return
	}
	list, isList := v.([]any)
	if !isList {
		t.r.add(t.key(key), "must be a list of texts, not "+kind(v), `write ["…", "…"]`)
		return
	}
	var out []string
	for _, e := range list {
		s, isString := e.(string)
		if !isString {
			t.r.add(t.key(key), "must be a list of texts, but holds "+kind(e), `write ["…", "…"]`)
			return
		}
		out = append(out, s)
	}
	*into = out
}

func (t *table) prefixes(key string, into *[]netip.Prefix) {
	var list []string
	t.strs(key, &list)
	for _, s := range list {
		p, remedy := parsePrefix(s)
		if remedy != "" {
			t.r.add(t.key(key), quoted(s)+" is not a prefix", remedy)
			continue
		}
		*into = append(*into, p)
	}
}

// client reads the address of a RADIUS client: one address or a prefix.
func (t *table) client(key string, into *netip.Prefix) {
	var s string
	t.str(key, &s)
	if s == "" {
		return
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		*into = netip.PrefixFrom(a, a.BitLen())
		return
	}
	p, remedy := parsePrefix(s)
	if remedy != "" {
		t.r.add(t.key(key), quoted(s)+" is not an address or prefix", remedy)
		return
	}
	*into = p
}

// parsePrefix returns a masked prefix, or what to do instead.
func parsePrefix(s string) (p netip.Prefix, remedy string) {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
			return p, fmt.Sprintf("write %q", netip.PrefixFrom(a, a.BitLen()))
		}
		return p, `write for example "192.0.2.0/24" or "2001:db8::/32"`
	case p.Addr().Is4In6():
		return p, "write IPv4 prefixes as IPv4"
	case p.Bits() == 0:
		return p, "/0 would hold every address: list your own prefixes"
	case p.Masked() != p:
		return p, fmt.Sprintf("it has bits set behind its length: write %q", p.Masked())
	}
	return p, ""
}

func (t *table) listen(key string, into *[]netip.AddrPort) {
	var list []string
	t.strs(key, &list)
	for _, s := range list {
		ap, err := netip.ParseAddrPort(s)
		if err != nil {
			t.r.add(t.key(key), quoted(s)+" is not an address and port", `write for example "192.0.2.1:1813" or "[2001:db8::1]:1813"`)
			continue
		}
		if ap.Addr().Unmap().IsUnspecified() {
			t.r.add(t.key(key), quoted(s)+" is every address: an answer could leave from another one than it was asked on, and be dropped",
				`name the address that the access server sends to, for example "192.0.2.1:1813"; more than one may be listed`)
			continue
		}
		if slices.Contains(*into, ap) {
			t.r.add(t.key(key), "names "+quoted(s)+" twice", "leave one of them out")
			continue
		}
		*into = append(*into, ap)
	}
}

// address reads one address and port; "" leaves *into alone.
func (t *table) address(key string, into *netip.AddrPort) {
	var s string
	t.str(key, &s)
	if s == "" {
		return
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		t.r.add(t.key(key), quoted(s)+" is not an address and port", `write for example "127.0.0.1:9477" or "[::1]:9477"`)
		return
	}
	*into = ap
}

func (t *table) flag(key string, into *bool) {
	v, ok := t.get(key)
	if !ok {
		return
	}
	b, isBool := v.(bool)
	if !isBool {
		t.wrong(key, "true or false", v)
		return
	}
	*into = b
}

func (t *table) whole(key string, low, high int64) (int64, bool) {
	v, ok := t.get(key)
	if !ok {
		return 0, false
	}
	n, isInt := v.(int64)
	if !isInt {
		t.wrong(key, "a whole number", v)
		return 0, false
	}
	if n < low || n > high {
		t.r.add(t.key(key), fmt.Sprintf("is %d", n), fmt.Sprintf("it must be from %d to %d", low, high))
		return 0, false
	}
	return n, true
}

func (t *table) number(key string, into *uint32, low, high int64) {
	if n, ok := t.whole(key, low, high); ok {
		*into = uint32(n)
	}
}

// share reads a part of a whole, more than nothing; 1 may be written without a
// fraction.
func (t *table) share(key string, into *float64) {
	v, ok := t.get(key)
	if !ok {
		return
	}
	n, isShare := v.(float64)
	if whole, isInt := v.(int64); isInt {
		n, isShare = float64(whole), true
	}
	switch {
	case !isShare:
		t.wrong(key, "a share such as 0.5", v)
	case !(n > 0 && n <= 1):
		t.r.add(t.key(key), fmt.Sprintf("is %v", n), "it must be more than 0 and at most 1")
	default:
		*into = n
	}
}

func (t *table) integer(key string, into *int, low, high int64) {
	if n, ok := t.whole(key, low, high); ok {
		*into = int(n)
	}
}

func (t *table) duration(key string, into *time.Duration, low, high time.Duration) {
	v, ok := t.get(key)
	if !ok {
		return
	}
	s, isString := v.(string)
	d, err := time.ParseDuration(s)
	switch {
	case !isString || err != nil:
		t.r.add(t.key(key), "must be a time, not "+kind(v), `write for example "60s" or "5m"`)
	case d < low || d > high:
		t.r.add(t.key(key), "is "+d.String(), fmt.Sprintf("it must be from %v to %v", low, high))
	default:
		*into = d
	}
}

func (t *table) size(key string, into *uint64, low uint64) {
	v, ok := t.get(key)
	if !ok {
		return
	}
	var n uint64
	switch v := v.(type) {
	case string:
		var err error
		if n, err = ParseSize(v); err != nil {
			t.r.add(t.key(key), err.Error(), "")
			return
		}
	case int64:
		if v < 0 {
			t.r.add(t.key(key), "is negative", `write for example "1GiB"`)
			return
		}
		n = uint64(v)
	default:
		t.r.add(t.key(key), "must be a size, not "+kind(v), `write for example "1GiB"`)
		return
	}
	if n < low {
		t.r.add(t.key(key), fmt.Sprintf("is %d bytes", n), fmt.Sprintf("it must be at least %dMiB", low>>20))
		return
	}
	*into = n
}

// ParseSize returns the number of bytes of a size such as "1GiB", "512 MiB",
// "500MB" or "4096".
func ParseSize(s string) (uint64, error) {
	units := []struct {
		name string
		n    uint64
	}{
		{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
		{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}, {"", 1},
	}
	digits := strings.TrimLeft(s, "0123456789")
	n, err := strconv.ParseUint(s[:len(s)-len(digits)], 10, 64)
	if err == nil {
		for _, u := range units {
			if strings.TrimSpace(digits) != u.name {
				continue
			}
			if n > 1<<60/u.n {
				return 0, fmt.Errorf("%q is larger than any disk", s)
			}
			return n * u.n, nil
		}
	}
	return 0, fmt.Errorf(`%q is not a size; write for example "1GiB" or "500MB"`, s)
}

// kind says what a TOML value is, for a message. It never shows a value that
// is a table or a list.
func kind(v any) string {
	switch v := v.(type) {
	case string:
		return "the text " + quoted(v)
	case int64:
		return "the number " + strconv.FormatInt(v, 10)
	case float64:
		return "a number with a fraction"
	case bool:
		return "true or false"
	case map[string]any:
		return "a section"
	case []any, []map[string]any:
		return "a list"
	case time.Time:
		return "a date"
	}
	return "this"
}
