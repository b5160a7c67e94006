package config

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Contact is a part of the 24-hour contact point, where authorities reach the
// provider (BEK 1145/2006).
type Contact struct {
	Name  string
	Phone string
	Mail  string // "" when there is none
	Hours string // UTC, as in the file: "00:00-24:00", "Mon-Fri 08:00-16:00", several with ";" between
}

const weekMinutes = 7 * 24 * 60

var weekDays = []string{"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"}

func (c *Config) readContacts(t *table) {
	for _, s := range t.subs("contact") {
		var x Contact
		s.str("name", &x.Name)
		s.str("phone", &x.Phone)
		s.str("mail", &x.Mail)
		s.str("hours", &x.Hours)
		s.done()
		c.Contacts = append(c.Contacts, x)
	}
}

func (c *Config) checkContacts(r *reader) {
	for i := range c.Contacts {
		x, at := &c.Contacts[i], element("contact", i)
		r.text(at+".name", x.Name, "say who answers, a person or a desk")
		r.text(at+".phone", x.Phone, `give the number that is answered at these hours, for example "+45 12 34 56 78"`)
		if x.Phone != "" && !strings.ContainsFunc(x.Phone, unicode.IsDigit) {
			r.add(at+".phone", quoted(x.Phone)+" has no digit", `give it as it is dialled from abroad, for example "+45 12 34 56 78"`)
		}
		if x.Mail != "" && (!strings.Contains(x.Mail, "@") || len(x.Mail) > maxText || strings.ContainsFunc(x.Mail, func(c rune) bool { return unicode.IsSpace(c) || !unicode.IsPrint(c) })) {
			r.add(at+".mail", quoted(x.Mail)+" is not a mail address", `write for example "desk@example.net", or take the line out`)
		}
		if _, err := weekOf(x.Hours); err != nil {
			r.add(at+".hours", err.Error(), `write for example "00:00-24:00" or "Mon-Fri 08:00-16:00; Sat,Sun 10:00-14:00", in UTC`)
		}
	}
}

// Uncovered returns the times of the week, UTC, at which no contact answers, as
// "Fri 16:00 to Mon 08:00"; none when there is always one.
func Uncovered(contacts []Contact) []string {
	week := make([]bool, weekMinutes)
	for i := range contacts {
		some, err := weekOf(contacts[i].Hours)
		for m := range some {
			week[m] = week[m] || err == nil && some[m]
		}
	}
	first := slices.Index(week, true) // begin where somebody answers: a gap over midnight of Sunday is one
	if first < 0 {
		return []string{"the whole week"}
	}
	var out []string
	gap := -1
	for n := range weekMinutes + 1 {
		m := (first + n) % weekMinutes
		switch {
		case !week[m] && gap < 0:
			gap = m
		case week[m] && gap >= 0:
			out = append(out, weekTime(gap)+" to "+weekTime(m))
			gap = -1
		}
	}
	return out
}

func weekTime(minute int) string {
	return fmt.Sprintf("%s %02d:%02d", weekDays[minute/1440], minute%1440/60, minute%60)
}

// weekOf returns for each minute of a week, from Monday 00:00 on, whether it is
// in these hours. Hours that end before they begin end on the next day.
func weekOf(hours string) ([]bool, error) {
	week := make([]bool, weekMinutes)
	if strings.TrimSpace(hours) == "" {
		return week, fmt.Errorf("is missing")
	}
	for part := range strings.SplitSeq(hours, ";") {
		words := strings.Fields(part)
		days, times := "Mon-Sun", ""
		switch len(words) {
		case 1:
			times = words[0]
		case 2:
			days, times = words[0], words[1]
		default:
			return week, fmt.Errorf("%q is not understood", part)
		}
		from, to, err := dayTimes(times)
		if err != nil {
			return week, err
		}
		on, err := daysOf(days)
		if err != nil {
			return week, err
		}
		for _, d := range on {
			for m := from; m < to; m++ {
				week[(d*1440+m)%weekMinutes] = true
			}
		}
	}
	return week, nil
}

// dayTimes reads "08:00-16:00" as minutes; to is greater than from.
func dayTimes(s string) (from, to int, err error) {
	a, b, ok := strings.Cut(s, "-")
	from, okA := clockMinutes(a)
	to, okB := clockMinutes(b)
	switch {
	case !ok || !okA || !okB || from == 1440:
		return 0, 0, fmt.Errorf("%q is not two times of a day", s)
	case from == to:
		return 0, 0, fmt.Errorf("%q has no length", s)
	case to < from:
		to += 1440
	}
	return from, to, nil
}

func clockMinutes(s string) (int, bool) {
	if s == "24:00" {
		return 1440, true
	}
	t, err := time.Parse("15:04", s)
	return t.Hour()*60 + t.Minute(), err == nil && len(s) == 5
}

// daysOf reads "Mon-Fri", "Sat" or "Sat,Sun"; Mon is 0.
func daysOf(s string) ([]int, error) {
	var out []int
	for part := range strings.SplitSeq(s, ",") {
		a, b, isRange := strings.Cut(part, "-")
		if !isRange {
			b = a
		}
		first, last := slices.Index(weekDays, a), slices.Index(weekDays, b)
		if first < 0 || last < 0 {
			return nil, fmt.Errorf("%q are no days; they are %s", part, strings.Join(weekDays, ", "))
		}
		for d := first; ; d = (d + 1) % 7 {
			out = append(out, d)
			if d == last {
				break
			}
		}
	}
	return out, nil
}
