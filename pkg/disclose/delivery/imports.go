package delivery

import (
	"github.com/edgelog/edgelog/pkg/disclose"
	"github.com/edgelog/edgelog/pkg/session"
)

// definitionOfCommunication says what an answer about calls and mail is made of.
const definitionOfCommunication = "A communication is a call, a short message or an e-mail as one record of the provider's own systems has it: " +
	"who with whom and when, with what equipment and where as far as the record says it, and nothing of what was said or written. " +
	"It was taken from files of that provider as they were imported, and not from packets: so there is no coverage of packets to state, and no sampling. " +
	"Numbers and mail addresses are in one form, in which they are compared whole; of an IMEI the first 14 digits are. " +
	"Records that say the same in every field are one communication. A call of which the provider has two records, one for each side, is two. " +
	"Start and end are those of the record; where it had no end, the end is the start. " +
	"The record does not say which of the parties the subscriber, the equipment and the place are of: that is for the provider to explain."

// sourceOfCommunications says where they come from.
const sourceOfCommunications = "the provider's own records of calls, short messages and e-mail"

// ImportsFacts say from which files an answer can be.
type ImportsFacts struct {
	disclose.Imports
	Without []string `json:"days_without,omitempty"` // of which no file has a record
}

// importsOf says how communications were recorded. Profile, clock and coverage of the
// gateway have no part in it.
func importsOf(a *disclose.CommunicationsAnswer, q *disclose.Query) RecordingFacts {
	s := &a.Summary
	out := RecordingFacts{
		Gateway: s.Gateway, Provider: s.Provider, Profiles: []string{}, TimeFormat: timeFormat,
		DefinitionOfCommunication: definitionOfCommunication, Source: sourceOfCommunications,
		WorstClockErrorMicro: -1, Sampling: "none: no packet was looked at",
	}
	if a.Imports != nil {
		out.Imports = &ImportsFacts{Imports: *a.Imports, Without: a.Imports.Without(q)}
	}
	return out
}

// importLines say the imports for people.
func (r *RecordingFacts) importLines(most int) []string {
	if r.Imports == nil {
		return disclose.ImportLines(nil, nil, most)
	}
	return disclose.ImportLines(&r.Imports.Imports, r.Imports.Without, most)
}

// ratify says until when the next approval of an emergency is due; "" when none is.
func ratify(a *disclose.Approvals) string {
	if !a.Due() || a.Ratify.IsZero() {
		return ""
	}
	return session.FormatTime(a.Ratify.UnixNano())
}
