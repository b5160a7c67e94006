package metrics

// kind is what a number is to Prometheus.
type kind uint8

const (
	gauge     kind = iota
	counter        // only grows while the agent runs; named …_total
	histogram      // a measure.Reading
)

// name says how one number of a status is shown. The path is that of its JSON:
// "[]" stands for each element of a list, "{}" for each key of a map. Both give
// a label, in their order, from labels.
type name struct {
	path   string
	kind   kind
	metric string
	help   string
	labels []string   // one for each [] and {} of the path
	fixed  [][]string // and these beside them, name and value
	scale  float64    // to the base unit; 0: 1
}

// direction labels the packets of one direction.
func direction(d string) [][]string { return [][]string{{"direction", d}} }

func state(s string) [][]string  { return [][]string{{"state", s}} }
func result(s string) [][]string { return [][]string{{"result", s}} }

const (
	nano  = 1e-9
	micro = 1e-6
)

var uplinkLabel, clientLabel = []string{"uplink"}, []string{"client"}

// names is the whole of it, but for what collector.go derives from words: see
// derived.
var names = []name{
	{path: "probe.adopted", metric: "edgelog_table_adopted", help: "1 when this start took over the session table of an earlier one."},
	{path: "probe.waiting", metric: "edgelog_table_old_sessions_waiting", help: "Sessions of an older table that found no room in this one yet."},
	{path: "probe.uplinks[].up", metric: "edgelog_uplink_up", help: "1 when the interface is up.", labels: uplinkLabel},
	{path: "probe.uplinks[].ingress.kept", metric: "edgelog_uplink_kept", help: "1 when this start took over an attachment: no packet passed unseen in between.", labels: uplinkLabel, fixed: direction("in")},
	{path: "probe.uplinks[].egress.kept", metric: "edgelog_uplink_kept", labels: uplinkLabel, fixed: direction("out")},
	{path: "probe.uplinks[].in.seen", kind: counter, metric: "edgelog_packets_seen_total",
		help: "Packets, on egress GSO buffers, that the programs looked at since the table was made.", labels: uplinkLabel, fixed: direction("in")},
	{path: "probe.uplinks[].out.seen", kind: counter, metric: "edgelog_packets_seen_total", labels: uplinkLabel, fixed: direction("out")},
	{path: "probe.uplinks[].in.segments", kind: counter, metric: "edgelog_packet_segments_total",
		help: "Packets on the wire: a GSO buffer counts its segments.", labels: uplinkLabel, fixed: direction("in")},
	{path: "probe.uplinks[].out.segments", kind: counter, metric: "edgelog_packet_segments_total", labels: uplinkLabel, fixed: direction("out")},
	{path: "probe.uplinks[].in.outcomes{}", kind: counter, metric: "edgelog_packets_total",
		help: "What became of each packet that was seen, by outcome.", labels: []string{"uplink", "outcome"}, fixed: direction("in")},
	{path: "probe.uplinks[].out.outcomes{}", kind: counter, metric: "edgelog_packets_total", labels: []string{"uplink", "outcome"}, fixed: direction("out")},

	{path: "probe.table.slots", metric: "edgelog_table_slots", help: "Slots of the session table."},
	{path: "probe.table.open", metric: "edgelog_table_sessions", help: "Occupied slots by what they hold: sessions open or closed and not yet on disk, lingering on disk, or remembered as not to be recorded.", fixed: state("open")},
	{path: "probe.table.closed", metric: "edgelog_table_sessions", fixed: state("closed")},
	{path: "probe.table.lingers", metric: "edgelog_table_sessions", fixed: state("lingering")},
	{path: "probe.table.negative", metric: "edgelog_table_sessions", fixed: state("negative")},
	{path: "probe.table.half_open", metric: "edgelog_table_half_open_sessions", help: "Open TCP sessions that nobody has answered."},
	{path: "probe.table.half_open_limit", metric: "edgelog_table_half_open_limit_sessions", help: "No more than so many half-open sessions get a slot."},
	{path: "probe.table.started", kind: counter, metric: "edgelog_sessions_started_total", help: "Sessions that got a slot since the table was made."},
	{path: "probe.table.reopened", kind: counter, metric: "edgelog_sessions_reopened_total", help: "Sessions on disk that a straggler changed: they are written again."},
	{path: "probe.table.carried", kind: counter, metric: "edgelog_sessions_carried_total", help: "Sessions that came from an older table, of another layout or size."},
	{path: "probe.table.stored", metric: "edgelog_table_stored_sessions", help: "Sessions of this table that are on disk; one less when a straggler reopens one at once."},
	{path: "probe.table.refused{}", kind: counter, metric: "edgelog_packets_refused_total",
		help: "Packets of sessions that are not recorded although they should be, by reason.", labels: []string{"reason"}},
	{path: "probe.table.sampled", kind: counter, metric: "edgelog_samples_total", help: "Packets that were taken as samples because their session was refused."},
	{path: "probe.table.samples_stored", kind: counter, metric: "edgelog_samples_stored_total", help: "Samples on disk."},
	{path: "probe.table.samples_waiting", metric: "edgelog_samples_waiting", help: "Samples not yet on disk."},
	{path: "probe.table.sample_crowd", kind: counter, metric: "edgelog_samples_crowd_packets_total", help: "Refused packets counted together, as there were too many end users for a counter each: every 500th of them is a sample."},
	{path: "probe.table.samples_lost", kind: counter, metric: "edgelog_samples_lost_total", help: "Samples that found no room, or were lost with a killed agent."},
	{path: "probe.table.ring_sent", kind: counter, metric: "edgelog_ring_events_total",
		help: "News of sessions for the agent: sent, or not because the ring was full. Of those the walk through the table learns; nothing is lost.", fixed: result("sent")},
	{path: "probe.table.ring_full", kind: counter, metric: "edgelog_ring_events_total", fixed: result("full")},
	{path: "probe.table.fragments_held", metric: "edgelog_fragments_held", help: "Fragments that wait for their first fragment, at the last look."},
	{path: "probe.table.fragments_released", kind: counter, metric: "edgelog_fragments_total",
		help: "What became of held fragments: they found their first one, were recorded without ports, or were not to be recorded.", fixed: result("released")},
	{path: "probe.table.fragments_orphaned", kind: counter, metric: "edgelog_fragments_total", fixed: result("orphaned")},
	{path: "probe.table.fragments_refused", kind: counter, metric: "edgelog_fragments_total", fixed: result("refused")},
	{path: "probe.lag.walk_age_s", metric: "edgelog_walk_age_seconds", help: "Since the last walk through the whole table ended; 0: none has yet."},
	{path: "probe.lag.walk_s", kind: histogram, metric: "edgelog_walk_seconds", help: "From the end of one walk through the table to that of the next."},
	{path: "probe.lag.news_s", kind: histogram, metric: "edgelog_ring_wait_seconds", help: "How long the oldest event of each reading waited in the ring."},
	{path: "probe.events_lost", kind: counter, metric: "edgelog_probe_events_lost_total", help: "Attachments, losses and clock steps that the log has and the ledger has not."},

	{path: "probe.clock.synchronised", metric: "edgelog_clock_synchronised", help: "1 when the kernel calls its clock synchronised, to within a second."},
	{path: "probe.clock.max_error_us", metric: "edgelog_clock_max_error_seconds", help: "The kernel's bound of the clock's error.", scale: micro},
	{path: "probe.clock.steps", kind: counter, metric: "edgelog_clock_steps_total", help: "Jumps of the clock that were seen."},
	{path: "probe.clock.last_step_s", metric: "edgelog_clock_last_step_seconds", help: "Size of the last jump."},
	{path: "probe.clock.uncertainty_ns", metric: "edgelog_clock_offset_uncertainty_seconds", help: "Of the offset between the programs' clock and UTC.", scale: nano},

	{path: "sessions.collected", kind: counter, metric: "edgelog_sessions_collected_total", help: "Sessions that the agent took from the table since it started."},
	{path: "sessions.stored", kind: counter, metric: "edgelog_sessions_stored_total", help: "Sessions made durable since the agent started."},
	{path: "sessions.returned", kind: counter, metric: "edgelog_sessions_returned_total", help: "Sessions given back to the table because they could not be stored; they are tried again."},
	{path: "sessions.expired", kind: counter, metric: "edgelog_sessions_expired_total", help: "Sessions that came when their day had been destroyed: they were not stored."},
	{path: "sessions.waiting", metric: "edgelog_sessions_waiting", help: "Sessions that wait for their block."},
	{path: "sessions.named", kind: counter, metric: "edgelog_sessions_named_total", help: "Of the sessions stored, those with a subscriber."},
	{path: "sessions.blocks", kind: counter, metric: "edgelog_session_blocks_total", help: "Sealed blocks of sessions stored since the agent started."},
	{path: "sessions.bytes", kind: counter, metric: "edgelog_session_bytes_total", help: "Their bytes."},
	{path: "sessions.batch_sessions", kind: histogram, metric: "edgelog_batch_sessions", help: "Sessions stored at once."},
	{path: "sessions.delay_s", kind: histogram, metric: "edgelog_store_delay_seconds", help: "From taking the first session of a batch from the table until the batch is durable."},
	{path: "sessions.age_s", kind: histogram, metric: "edgelog_session_age_seconds",
		help: "From the last packet of the oldest session of a batch until it is durable; the silence that ended it included."},

	{path: "store.ok", metric: "edgelog_store_ok", help: "1 when what is recorded is stored."},
	{path: "store.free_bytes", metric: "edgelog_disk_free_bytes", help: "That may still be written to the disk."},
	{path: "store.stop_bytes", metric: "edgelog_disk_stop_bytes", help: "With less free space nothing is written."},
	{path: "store.blocks", metric: "edgelog_store_blocks", help: "Blocks in the store."},
	{path: "store.bytes", metric: "edgelog_store_bytes", help: "Their bytes."},
	{path: "store.records", metric: "edgelog_store_records", help: "Records in them."},
	{path: "store.keys", metric: "edgelog_store_keys", help: "Wrapped day keys."},
	{path: "store.commit_s", kind: histogram, metric: "edgelog_store_commit_seconds", help: "How long each write took until it was durable."},
	{path: "store.merge.waiting", metric: "edgelog_merge_waiting", help: "Fresh databases that are to be merged into runs."},
	{path: "store.merge.merged", kind: counter, metric: "edgelog_merge_blocks_total", help: "Blocks that merged ones stand for now."},
	{path: "store.merge.into", kind: counter, metric: "edgelog_merge_merged_blocks_total", help: "Blocks that they were merged to."},
	{path: "store.merge.copied", kind: counter, metric: "edgelog_merge_copied_blocks_total", help: "Blocks that were taken over as they were."},
	{path: "store.merge.shed", kind: counter, metric: "edgelog_merge_shed_blocks_total", help: "Of them, because merging could not have kept up, or the disk was filling up."},
	{path: "store.merge.records", kind: counter, metric: "edgelog_merge_records_total", help: "Records merged."},
	{path: "store.merge.twice", kind: counter, metric: "edgelog_merge_twice_total", help: "Of them, a session that had been written twice."},
	{path: "store.merge.failures", kind: counter, metric: "edgelog_merge_failures_total", help: "Merges that came to nothing; they are tried again."},
	{path: "store.expiry.days", kind: counter, metric: "edgelog_destructions_total", help: "Days that were destroyed because their time was over, since the agent started."},
	{path: "store.expiry.late", metric: "edgelog_destruction_late", help: "1 when what is due is more than an hour late."},
	{path: "store.expiry.due", metric: "edgelog_destructions_due", help: "Days that should have been destroyed and are not."},
	{path: "store.broken_runs", metric: "edgelog_store_broken_runs", help: "Runs whose list of contents cannot be read."},
	{path: "store.databases_aside", metric: "edgelog_store_databases_aside", help: "Databases that could not be opened and were set aside."},
	{path: "store.lost_blocks", metric: "edgelog_store_lost_blocks", help: "Blocks that could not be read when they were to be merged."},
	{path: "store.again", kind: counter, metric: "edgelog_store_again_total", help: "Records that were stored twice because others with them could not be; they are read as one."},
}

var bindingNames = []name{
	{path: "bindings.book.in_force", metric: "edgelog_bindings_in_force", help: "Bindings without an end."},
	{path: "bindings.book.remembered", metric: "edgelog_bindings_remembered", help: "Bindings in memory, those in force included."},
	{path: "bindings.book.sessions", metric: "edgelog_accounting_sessions", help: "Accounting sessions in memory."},
	{path: "bindings.book.without_address", metric: "edgelog_accounting_sessions_without_address", help: "Of those, sessions that have named no address so far."},
	{path: "bindings.book.not_sealed", metric: "edgelog_bindings_not_sealed", help: "New or changed bindings that are not sealed yet."},
	{path: "bindings.book.contradictions", metric: "edgelog_bindings_contradictions", help: "Remembered bindings of different subscribers that overlap."},
	{path: "bindings.book.events{}", kind: counter, metric: "edgelog_accounting_events_total", help: "Accounting events by kind.", labels: []string{"kind"}},
	{path: "bindings.book.repeated", kind: counter, metric: "edgelog_accounting_events_repeated_total", help: "Of the events, known already."},
	{path: "bindings.book.quiet", kind: counter, metric: "edgelog_accounting_events_quiet_total", help: "Of the events, interim updates that only say that a session goes on."},
	{path: "bindings.book.late", kind: counter, metric: "edgelog_accounting_events_late_total", help: "Of the events, about a time for which ended sessions may be forgotten."},
	{path: "bindings.book.doubtful", kind: counter, metric: "edgelog_accounting_events_doubtful_total", help: "Of the events, with a time that was not the source's own."},
	{path: "bindings.book.expired", kind: counter, metric: "edgelog_bindings_expired_total", help: "Sessions whose leases ended by themselves."},
	{path: "bindings.book.crowded", kind: counter, metric: "edgelog_accounting_facts_crowded_total", help: "Facts pushed out because one session had too many."},
	{path: "bindings.book.commits", kind: counter, metric: "edgelog_book_commits_total", help: "Writes to the book's log, each for many events."},
	{path: "bindings.book.commit_errors", kind: counter, metric: "edgelog_book_commit_errors_total", help: "Of the writes, failed."},
	{path: "bindings.book.snapshots", kind: counter, metric: "edgelog_book_snapshots_total", help: "Times that the book's log was begun anew."},
	{path: "bindings.book.log_bytes", metric: "edgelog_book_log_bytes", help: "Length of the book's log."},
	{path: "bindings.book.sink_errors", kind: counter, metric: "edgelog_book_sink_errors_total", help: "Times that bindings could not be sealed and stored; they are tried again."},
	{path: "bindings.book.torn_bytes", metric: "edgelog_book_torn_bytes", help: "Cut off the book's log at the start, never confirmed to anyone."},
	{path: "register.age_s", metric: "edgelog_register_age_seconds", help: "Since a register of subscribers was imported last; 0: never."},
	{path: "register.rows", kind: counter, metric: "edgelog_register_rows_total", help: "Subscribers sealed since the agent started."},
	{path: "imports.calls", kind: counter, metric: "edgelog_imported_calls_total", help: "Records of calls and short messages imported since the agent started."},
	{path: "imports.mail", kind: counter, metric: "edgelog_imported_mail_total", help: "Records of mail imported since the agent started."},
	{path: "imports.expired", kind: counter, metric: "edgelog_imported_expired_total", help: "Lines of imports left out because the time of their days was over."},
	{path: "bindings.static", metric: "edgelog_static_prefixes", help: "Rows of the static table."},
	{path: "bindings.blocks", kind: counter, metric: "edgelog_binding_blocks_total", help: "Sealed blocks of access records stored since the agent started."},
	{path: "bindings.records", kind: counter, metric: "edgelog_binding_records_total", help: "Access records in them."},
	{path: "bindings.changed", kind: counter, metric: "edgelog_binding_records_changed_total", help: "Of the access records, new or changed."},
	{path: "bindings.snapshot", kind: counter, metric: "edgelog_binding_records_snapshot_total", help: "Of the access records, all in force at a start or a change of the day."},
	{path: "bindings.again", kind: counter, metric: "edgelog_binding_records_again_total", help: "Of the access records, stored twice because others with them could not be."},

	{path: "radius.received", kind: counter, metric: "edgelog_radius_requests_total", help: "Datagrams received by the accounting server."},
	{path: "radius.answered", kind: counter, metric: "edgelog_radius_answers_total", help: "First answers."},
	{path: "radius.repeated", kind: counter, metric: "edgelog_radius_repeats_total", help: "Answers given once more."},
	{path: "radius.dropped{}", kind: counter, metric: "edgelog_radius_dropped_total", help: "Datagrams without an answer, by reason.", labels: []string{"reason"}},
	{path: "radius.in_flight", metric: "edgelog_radius_in_flight", help: "Requests that wait or are worked on."},
	{path: "radius.status_server", kind: counter, metric: "edgelog_radius_status_server_total", help: "Of the first answers, to Status-Server."},
	{path: "radius.remarks{}", kind: counter, metric: "edgelog_radius_remarks_total", help: "About requests that were answered, by remark.", labels: []string{"remark"}},
	{path: "radius.delay_s", kind: histogram, metric: "edgelog_radius_answer_seconds", help: "From the arrival of a request to its first answer: its event is durable."},
	{path: "radius.clients[].received", kind: counter, metric: "edgelog_radius_client_requests_total",
		help: "Datagrams of each client, which is named by its place in the configuration, from 1.", labels: clientLabel},
	{path: "radius.clients[].answered", kind: counter, metric: "edgelog_radius_client_answers_total", help: "Answers to each client, repetitions included.", labels: clientLabel},
	{path: "radius.clients[].bad_authenticator", kind: counter, metric: "edgelog_radius_client_bad_authenticator_total", help: "Requests with a wrong authenticator: most likely a wrong secret.", labels: clientLabel},
	{path: "radius.clients[].clock_behind_ns", metric: "edgelog_radius_client_clock_behind_seconds", help: "By how much the client's clock is behind; negative: ahead; 0: within 5 s.", labels: clientLabel, scale: nano},

	{path: "radius.clients[].nas_not_allowed", kind: counter, metric: "edgelog_radius_client_nas_not_allowed_total", help: "Requests dropped because the client may not speak for their access server.", labels: clientLabel},
	{path: "radius.clients[].prefix_not_allowed", kind: counter, metric: "edgelog_radius_client_prefix_not_allowed_total", help: "Requests of which an address was left out because the client's sessions may not hold it.", labels: clientLabel},
	{path: "radius.radsec.accepted", kind: counter, metric: "edgelog_radsec_connections_total", help: "TCP connections accepted for RADIUS over TLS."},
	{path: "radius.radsec.open", metric: "edgelog_radsec_connections_open", help: "Connections that are open."},
	{path: "radius.radsec.refused{}", kind: counter, metric: "edgelog_radsec_refused_total", help: "Connections refused before their client was known, by reason.", labels: []string{"reason"}},
	{path: "radius.radsec.ended{}", kind: counter, metric: "edgelog_radsec_ended_total", help: "Connections of known clients that ended, by reason.", labels: []string{"reason"}},
	{path: "radius.radsec.certificate_expires_s", metric: "edgelog_radsec_certificate_expires_seconds", help: "When the own certificate expires, Unix time."},
	{path: "radius.radsec.clients[].received", kind: counter, metric: "edgelog_radsec_client_requests_total",
		help: "Requests of each client by TLS, which is named by its place in the configuration, from 1.", labels: clientLabel},
	{path: "radius.radsec.clients[].answered", kind: counter, metric: "edgelog_radsec_client_answers_total", help: "Answers to each client by TLS, repetitions included.", labels: clientLabel},
	{path: "radius.radsec.clients[].bad_authenticator", kind: counter, metric: "edgelog_radsec_client_bad_authenticator_total", help: "Requests with a wrong authenticator: another secret than radsec.", labels: clientLabel},
	{path: "radius.radsec.clients[].nas_not_allowed", kind: counter, metric: "edgelog_radsec_client_nas_not_allowed_total", help: "Requests dropped because the client may not speak for their access server.", labels: clientLabel},
	{path: "radius.radsec.clients[].prefix_not_allowed", kind: counter, metric: "edgelog_radsec_client_prefix_not_allowed_total", help: "Requests of which an address was left out because the client's sessions may not hold it.", labels: clientLabel},
	{path: "radius.radsec.clients[].clock_behind_ns", metric: "edgelog_radsec_client_clock_behind_seconds", help: "By how much the client's clock is behind; negative: ahead; 0: within 5 s.", labels: clientLabel, scale: nano},

	{path: "coverage.ok", metric: "edgelog_coverage_ok", help: "1 when the record of coverage can be written."},
	{path: "coverage.uplinks[].total.complete", kind: counter, metric: "edgelog_coverage_seconds_total", help: "Seconds of the record by what is known of each: all sessions, samples, or not all; since the agent started.", labels: uplinkLabel, fixed: state("complete")},
	{path: "coverage.uplinks[].total.sampled", kind: counter, metric: "edgelog_coverage_seconds_total", labels: uplinkLabel, fixed: state("sampled")},
	{path: "coverage.uplinks[].total.missing", kind: counter, metric: "edgelog_coverage_seconds_total", labels: uplinkLabel, fixed: state("missing")},
	{path: "coverage.uplinks[].total.unknown", kind: counter, metric: "edgelog_coverage_seconds_total", labels: uplinkLabel, fixed: state("unknown")},
	{path: "coverage.uplinks[].total.open_lost", kind: counter, metric: "edgelog_coverage_open_lost_seconds_total", help: "Of the complete seconds, those with sessions that were lost while open.", labels: uplinkLabel},
	{path: "coverage.uplinks[].total.clock_doubtful", kind: counter, metric: "edgelog_coverage_clock_doubtful_seconds_total", help: "Seconds whose times are doubtful.", labels: uplinkLabel},
	{path: "custodians.keys", metric: "edgelog_custodians", help: "Custodians whose keys open what is recorded."},
	{path: "custodians.minimum", metric: "edgelog_custodians_minimum", help: "The agent does not start with fewer."},
	{path: "refused.total", kind: counter, metric: "edgelog_refused_total", help: "Requests on the control socket that were refused for want of a role, since the agent started."},
	{path: "refused.entries", kind: counter, metric: "edgelog_refused_entries_total", help: "Entries of the ledger about them; one stands for all alike within a minute."},
	{path: "requests.filed", metric: "edgelog_requests_filed", help: "Requests to read that wait for approval."},
	{path: "requests.approved", metric: "edgelog_requests_approved", help: "Requests to read that are approved and were not run yet."},
	{path: "requests.unratified", metric: "edgelog_requests_unratified", help: "Emergencies that wait for a second custodian."},
	{path: "requests.overdue", metric: "edgelog_requests_overdue", help: "Emergencies of the last month for which no second custodian came in time."},
	{path: "requests.denied", kind: counter, metric: "edgelog_requests_denied_total", help: "Steps of requests, and readings, that were not permitted, since the agent started."},
	{path: "breaches.open", metric: "edgelog_breaches_open", help: "Breaches of personal data whose notification is not complete."},
	{path: "breaches.overdue", metric: "edgelog_breaches_overdue", help: "Of them, those of which a notification should have been sent."},
	{path: "ledger.entries", metric: "edgelog_ledger_entries", help: "Entries of the ledger."},
	{path: "ledger.ok", metric: "edgelog_ledger_ok", help: "1 when the last entry could be written, and the ledger is what it was."},
	{path: "ledger.witness[].ok", metric: "edgelog_ledger_witness_ok", help: "1 when the newest checkpoint that was due was sent.", labels: []string{"witness"}},
	{path: "ledger.witness[].size", metric: "edgelog_ledger_witness_entries", help: "Entries under the checkpoint that was sent last.", labels: []string{"witness"}},
	{path: "ledger.noted", kind: counter, metric: "edgelog_ledger_noted_total", help: "Entries about this run of the agent."},
	{path: "ledger.written", kind: counter, metric: "edgelog_ledger_written_total", help: "Of those, written."},
	{path: "ledger.waiting", metric: "edgelog_ledger_waiting", help: "Of those, waiting for a ledger that cannot be written."},
	{path: "ledger.lost", kind: counter, metric: "edgelog_ledger_lost_total", help: "Of those, lost because too many waited; they are in the log."},
}

// notShown are numbers of a status that have no metric, each with the reason.
var notShown = map[string]string{
	"register.records":                         "edgelog_balanced compares",
	"probe.uplinks[].ifindex":                  "a number that means nothing outside the machine",
	"probe.uplinks[].ingress.program_id":       "a number that means nothing outside the machine",
	"probe.uplinks[].egress.program_id":        "a number that means nothing outside the machine",
	"probe.uplinks[].in.moving":                "belongs to the sums, which edgelog_balanced tells of",
	"probe.uplinks[].out.moving":               "belongs to the sums, which edgelog_balanced tells of",
	"probe.table.moving":                       "belongs to the sums, which edgelog_balanced tells of",
	"probe.table.balanced":                     "edgelog_balanced tells of all sums",
	"probe.table.full":                         "edgelog_packets_refused_total has it by reason",
	"probe.table.contended":                    "edgelog_packets_refused_total has it by reason",
	"probe.clock.offset_ns":                    "only of use inside the agent: between UTC and the time since boot",
	"coverage.uplinks[].total.seconds":         "the sum of edgelog_coverage_seconds_total",
	"coverage.uplinks[].total.refused_packets": "edgelog_packets_total has it by outcome",
	"coverage.uplinks[].total.samples":         "edgelog_samples_total",
	"coverage.last_24h[].seconds":              "increase(edgelog_coverage_seconds_total[1d])",
	"coverage.last_24h[].complete":             "increase(edgelog_coverage_seconds_total[1d])",
	"coverage.last_24h[].sampled":              "increase(edgelog_coverage_seconds_total[1d])",
	"coverage.last_24h[].missing":              "increase(edgelog_coverage_seconds_total[1d])",
	"coverage.last_24h[].unknown":              "increase(edgelog_coverage_seconds_total[1d])",
	"coverage.last_24h[].open_lost":            "increase(edgelog_coverage_open_lost_seconds_total[1d])",
	"coverage.last_24h[].clock_doubtful":       "increase(edgelog_coverage_clock_doubtful_seconds_total[1d])",
	"coverage.last_24h[].refused_packets":      "edgelog_packets_total has it by outcome",
	"coverage.last_24h[].samples":              "edgelog_samples_total",
	"lately.seconds":                           "rate() of the counters says it better",
	"lately.refused":                           "rate(edgelog_packets_refused_total) says it better",
	"lately.sampled":                           "rate(edgelog_samples_total) says it better",
	"sums[].left":                              "edgelog_balanced tells of all sums",
	"sums[].right":                             "edgelog_balanced tells of all sums",
	"sums[].moving":                            "edgelog_balanced tells of all sums",
	"store.counted":                            "edgelog_store_records is the same, and edgelog_balanced compares",
	"store.expiry.retention_days":              "a setting",
	"store.at_start":                           "edgelog_balanced compares",
	"bindings.book.handed_over":                "edgelog_binding_records_changed_total is the same",
	"radius.radsec.connections[].received":     "a connection comes and goes; edgelog_radsec_client_requests_total counts for its client",
	"radius.radsec.connections[].answered":     "edgelog_radsec_client_answers_total",
	"nat.table.pieces":                         "edgelog_balanced compares",
	"nat.table.pieces_taken":                   "edgelog_balanced compares",
	"nat.records":                              "edgelog_binding_records_translations_total is the same",
	"nat.wanted_buffer_bytes":                  "stands in the configuration",
	"nat.access":                               "edgelog_info has the profile",
	"nat.exact":                                "edgelog_conntrack_timed is the same",
	"radius.moving":                            "belongs to the sums, which edgelog_balanced tells of",
}
