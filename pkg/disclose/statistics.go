package disclose

import (
	"strconv"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// The words of the Fields that entries about requests have. The yearly statistics
// are made from them alone, so that nobody's key is needed and nobody is named.
//
//	request  step, state, request (its id; the entry that files it may leave it out: it is its own index), ask
//	outcome  act, action, intent, result, records, and of a request: request, age_days, why
const (
	FieldStep    = "step"     // what was done with a request
	FieldAct     = "act"      // of an intent or outcome: an Act
	FieldState   = "state"    // a State, or StateOverdue
	FieldRequest = "request"  // id of the request: the index of the entry that filed it
	FieldAsk     = "ask"      // what is asked for: one of the words below
	FieldAction  = "action"   // of an intent or outcome: the same words, and those of other readings
	FieldIntent  = "intent"   // index of the intent
	FieldResult  = "result"   // ResultAnswered, or why there is no answer
	FieldRecords = "records"  // how many were found
	FieldAge     = "age_days" // see AgeDays
	FieldWhy     = "why"      // a Why, when nothing was found, or not all of it
)

// The words of FieldAsk.
const (
	AskedLookup         = "lookup"         // sessions
	AskedWho            = WantWho          // who held an address at a time
	AskedAccess         = WantAccess       // access records
	AskedCommunications = "communications" // calls and mail that were imported
)

// StateOverdue stands in FieldState when an emergency was read for and the
// approval did not come in time. It is no end of the request.
const StateOverdue = "overdue"

// ResultAnswered is the result of a reading that came to its end.
const ResultAnswered = "answered"

// Why says in one word why a request could not be met. The words are stored and
// never change their meaning.
type Why string

// The reasons; the first three come from the state of a request, the others from
// its outcome.
const (
	WhyRefused    Why = "refused"    // by a custodian
	WhyWithdrawn  Why = "withdrawn"  // by its officer
	WhyExpired    Why = "expired"    // nobody approved or ran it in time
	WhyUnrecorded Why = "unrecorded" // nothing was recorded in that window
	WhyUnmatched  Why = "unmatched"  // there are records of that window, and none of them matched
	WhyDestroyed  Why = "destroyed"  // the days of the window had been destroyed
	WhyIncomplete Why = "incomplete" // not all could be read
	WhyProfile    Why = "profile"    // the profile does not record what was asked for
)

// whys are all reasons in the order in which they are shown, in words.
var whys = []struct {
	why  Why
	text string
}{
	{WhyRefused, "refused by a custodian"},
	{WhyWithdrawn, "withdrawn by the officer"},
	{WhyExpired, "expired"},
	{WhyUnrecorded, "nothing was recorded then"},
	{WhyUnmatched, "nothing matched"},
	{WhyDestroyed, "its days were destroyed"},
	{WhyIncomplete, "not all could be read"},
	{WhyProfile, "the profile does not record it"},
}

// Valid reports whether w is one of the words.
func (w Why) Valid() bool {
	for i := range whys {
		if whys[i].why == w {
			return true
		}
	}
	return false
}

// AgeDays is the value of FieldAge: how old the data were when they were asked for,
// in whole days from the end of the window to the filing; 0 when the window ended
// later (directive 2006/24/EC article 10: the time between the date on which the
// data were retained and that of the request).
func AgeDays(q *Query, filed time.Time) string {
	const day = int64(24 * time.Hour)
	return strconv.FormatInt(max(0, filed.UnixNano()-q.To)/day, 10)
}

// Nothing is what is known of a reading that found nothing.
type Nothing struct {
	Profile  session.Profile         // in force in the window; 0: not known
	Complete bool                    // all that is stored could be read
	Kept     session.Day             // the first day whose records were not destroyed; 0: not known
	Coverage *session.CoverageReport // of the window; nil: not known
	Imports  *Imports                // of the window, for calls and mail; nil: not known
}

// Why is the value of FieldWhy for a question that found nothing: the first of
// profile, destroyed, incomplete, unrecorded that is so, or else unmatched.
func (n *Nothing) Why(q *Query) Why {
	sessions := q.Ask == ""
	_, last := q.Days()
	switch {
	case sessions && n.Profile != 0 && !n.Profile.RecordsSessions(), sessions && q.Remote.IsValid() && n.Profile == session.ProfileSource:
		return WhyProfile
	case n.Kept != 0 && last < n.Kept:
		return WhyDestroyed
	case !n.Complete:
		return WhyIncomplete
	case sessions && n.Coverage != nil && !anyRecorded(n.Coverage):
		return WhyUnrecorded
	case q.Ask == WantCommunications && n.Imports != nil && len(n.Imports.Files) == 0:
		return WhyUnrecorded
	}
	return WhyUnmatched
}

// anyRecorded reports whether anything at all was recorded of one second.
func anyRecorded(c *session.CoverageReport) bool {
	for i := range c.Totals {
		if c.Totals[i].Complete+c.Totals[i].Sampled > 0 {
			return true
		}
	}
	return false
}
