package metrics

var serverLabel = []string{"server"}

// dhcpNames are the numbers of DHCP servers, which are named by their place in
// the configuration, from 1, and so are their files.
var dhcpNames = []name{
	{path: "dhcp.dropped{}", kind: counter, metric: "edgelog_dhcp_reports_dropped_total", help: "DHCP reports that are no server's, by reason.", labels: []string{"reason"}},
	{path: "dhcp.servers[].ok", metric: "edgelog_dhcp_server_ok", help: "1 when all that is configured of the DHCP server can be read.", labels: serverLabel},
	{path: "dhcp.servers[].whole", metric: "edgelog_dhcp_server_whole", help: "1 when all leases in force are known.", labels: serverLabel},
	{path: "dhcp.servers[].in_force", metric: "edgelog_dhcp_leases_in_force", help: "Leases in force.", labels: serverLabel},
	{path: "dhcp.servers[].records", kind: counter, metric: "edgelog_dhcp_records_total", help: "What the server said of leases, in whatever way.", labels: serverLabel},
	{path: "dhcp.servers[].news", kind: counter, metric: "edgelog_dhcp_records_new_total", help: "Of the records, those that said something new.", labels: serverLabel},
	{path: "dhcp.servers[].known", kind: counter, metric: "edgelog_dhcp_records_known_total", help: "Of the records, those that did not.", labels: serverLabel},
	{path: "dhcp.servers[].future", kind: counter, metric: "edgelog_dhcp_records_future_total", help: "Of the records, those with a time that had not come: the server's clock is ahead.", labels: serverLabel},
	{path: "dhcp.servers[].full", kind: counter, metric: "edgelog_dhcp_records_full_total", help: "Of the records, those beyond what can be remembered.", labels: serverLabel},
	{path: "dhcp.servers[].ended_by_list", kind: counter, metric: "edgelog_dhcp_leases_ended_by_list_total", help: "Leases that ended because a list did not name them any more.", labels: serverLabel},
	{path: "dhcp.servers[].healed", kind: counter, metric: "edgelog_dhcp_leases_healed_total", help: "Leases that a file or list told of first, although reports are expected.", labels: serverLabel},
	{path: "dhcp.servers[].events", kind: counter, metric: "edgelog_dhcp_events_total", help: "Events for the book of bindings.", labels: serverLabel},
	{path: "dhcp.servers[].applied", kind: counter, metric: "edgelog_dhcp_events_durable_total", help: "Of the events, durable.", labels: serverLabel},
	{path: "dhcp.servers[].waiting", metric: "edgelog_dhcp_events_waiting", help: "Of the events, waiting for the book.", labels: serverLabel},
	{path: "dhcp.servers[].refused", kind: counter, metric: "edgelog_dhcp_events_refused_total", help: "Of the events, impossible.", labels: serverLabel},
	{path: "dhcp.servers[].reports", kind: counter, metric: "edgelog_dhcp_reports_total", help: "Reports of the server's hook or script.", labels: serverLabel},
	{path: "dhcp.servers[].reports_taken", kind: counter, metric: "edgelog_dhcp_reports_taken_total", help: "Of the reports, durable.", labels: serverLabel},
	{path: "dhcp.servers[].reports_not_taken{}", kind: counter, metric: "edgelog_dhcp_reports_not_taken_total", help: "Of the reports, not taken, by reason.", labels: []string{"server", "reason"}},
	{path: "dhcp.servers[].reports_under_way", metric: "edgelog_dhcp_reports_under_way", help: "Of the reports, being worked on.", labels: serverLabel},
	{path: "dhcp.servers[].lists", kind: counter, metric: "edgelog_dhcp_lists_total", help: "Lists read from the control socket.", labels: serverLabel},
	{path: "dhcp.servers[].list_leases", kind: counter, metric: "edgelog_dhcp_list_leases_total", help: "Leases in them.", labels: serverLabel},
	{path: "dhcp.servers[].list_faulty", kind: counter, metric: "edgelog_dhcp_list_faulty_total", help: "Of those leases, of no use.", labels: serverLabel},
	{path: "dhcp.servers[].files[].read", kind: counter, metric: "edgelog_dhcp_file_lines_total", help: "Lines, or declarations, read from a lease file.", labels: []string{"server", "file"}},
	{path: "dhcp.servers[].files[].used", kind: counter, metric: "edgelog_dhcp_file_used_total", help: "Of the lines, those that hold leases.", labels: []string{"server", "file"}},
	{path: "dhcp.servers[].files[].skipped", kind: counter, metric: "edgelog_dhcp_file_skipped_total", help: "Of the lines, those about something else.", labels: []string{"server", "file"}},
	{path: "dhcp.servers[].files[].faulty{}", kind: counter, metric: "edgelog_dhcp_file_faulty_total", help: "Of the lines, those of no use, by reason.", labels: []string{"server", "file", "reason"}},
	{path: "dhcp.servers[].files[].leases", kind: counter, metric: "edgelog_dhcp_file_leases_total", help: "Leases in a file.", labels: []string{"server", "file"}},
	{path: "dhcp.servers[].files[].replaced", kind: counter, metric: "edgelog_dhcp_file_replaced_total", help: "Times that another file took its place.", labels: []string{"server", "file"}},
	{path: "dhcp.servers[].files[].truncated", kind: counter, metric: "edgelog_dhcp_file_truncated_total", help: "Times that the file was begun anew.", labels: []string{"server", "file"}},
}
