// Package metrics shows the agent's status to Prometheus.
//
// The life of a number:
//
//  1. Somewhere in the agent something is counted, as it would be without this
//     package: nothing here is on the way of a packet or a session.
//  2. recorder.Status holds it, with all other numbers.
//  3. When a scrape comes, the status is asked for, unless the last one is
//     younger than MinAge: it walks through the session table.
//  4. The table in names.go says under which name, with which labels and in
//     which unit each number is shown. A number without a line there, and
//     without a reason why it has none, fails a test.
//
// Labels are uplinks, directions and the numbered reasons of the project:
// their number is bounded by the configuration. The package shows no address,
// no name of a person, and no number of a single session. It answers GET
// /metrics and nothing else, and a failure of its listener never stops the
// recording.
package metrics
