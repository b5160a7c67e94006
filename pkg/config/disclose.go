package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// MostHits is the most hits that a request may be allowed: as many as an answer
// holds (disclose.MostHits).
const MostHits = 200_000

// MostWindow is the longest window that a request may be allowed.
const MostWindow = 400 * 24 * time.Hour

// Disclose is what a provider lets be asked for, and how it is decided.
type Disclose struct {
	Country   string        // of the authorities, ISO 3166-1, where a request names none
	Approvals int           // custodians who must agree
	MaxWindow time.Duration // of one request
	MaxHits   int           // of one request

	Grant     time.Duration // how long an approved request may be run
	File      time.Duration // how long a filed request waits for its approvals
	Emergency time.Duration // how long an emergency's approvals may follow it
}

func defaultDisclose() Disclose {
	return Disclose{
		Country: "DK", Approvals: 1, MaxWindow: 31 * 24 * time.Hour, MaxHits: 10_000,
		Grant: 72 * time.Hour, File: 14 * 24 * time.Hour, Emergency: 24 * time.Hour,
	}
}

func (d *Disclose) read(t *table) {
	t.str("country", &d.Country)
	t.integer("approvals", &d.Approvals, 1, 100)
	t.days("max_window", &d.MaxWindow, time.Second, MostWindow)
	t.integer("max_hits", &d.MaxHits, 1, MostHits)
	t.count("grant_hours", &d.Grant, time.Hour, 30*24)
	t.count("file_days", &d.File, 24*time.Hour, 366)
	t.count("emergency_hours", &d.Emergency, time.Hour, 30*24)
	t.done()
}

func (c *Config) checkDisclose(r *reader) {
	if s := c.Disclose.Country; len(s) != 2 || strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		r.add("disclose.country", quoted(s)+" is not two capital letters of ISO 3166-1", `write for example "DK"`)
	}
	if have := len(c.People.With(Custodian)); c.Disclose.Approvals > max(have, 1) {
		r.add("disclose.approvals", fmt.Sprintf("is %d, and %d persons are custodians: nothing could ever be approved", c.Disclose.Approvals, have),
			`lower it, or add sections [[person]] with roles = ["custodian"]`)
	}
}

// count reads a number of units.
func (t *table) count(key string, into *time.Duration, unit time.Duration, most int64) {
	if n, ok := t.whole(key, 1, most); ok {
		*into = time.Duration(n) * unit
	}
}

// days reads a time that may be given in days, "31d" or "1d12h".
func (t *table) days(key string, into *time.Duration, low, high time.Duration) {
	v, ok := t.get(key)
	if !ok {
		return
	}
	s, isString := v.(string)
	d, err := parseDays(s)
	switch {
	case !isString || err != nil:
		t.add(key, "must be a time, not "+kind(v), `write for example "31d" or "36h"`)
	case d < low || d > high:
		t.add(key, "is "+s, fmt.Sprintf("it must be from %v to %dd", low, high/(24*time.Hour)))
	default:
		*into = d
	}
}

func parseDays(s string) (time.Duration, error) {
	days, rest, ok := strings.Cut(s, "d")
	if !ok {
		return time.ParseDuration(s)
	}
	n, err := strconv.ParseUint(days, 10, 16)
	if err != nil || rest == "" {
		return time.Duration(n) * 24 * time.Hour, err
	}
	more, err := time.ParseDuration(rest)
	if err == nil && (more < 0 || more > MostWindow) {
		err = strconv.ErrRange
	}
	return time.Duration(n)*24*time.Hour + more, err
}
