#!/bin/sh
# Tells edgelog of leases: the script of Kea's libdhcp_run_script.so, and of
# dnsmasq's --dhcp-script. What the server says it says in the environment and
# the arguments; nothing of it is ever run or expanded here.
#
# Kea:     "hooks-libraries": [{"library": "…/libdhcp_run_script.so", "parameters":
#          {"name": "/usr/local/share/edgelog/dhcp-report.sh", "sync": false}}]
# dnsmasq: dhcp-script=/usr/local/share/edgelog/dhcp-report.sh
#
# EDGELOG_DHCP_SOCKET is dhcp.listen of the configuration, EDGELOG_DHCP_SERVER the
# name of the server there, needed where two are of one kind. Kea gives its
# script no environment but its own: set them in a copy. Whatever happens, the
# server goes on: a report that is lost is found again in the server's list.
exec /usr/local/sbin/edgelog dhcp report \
	--socket "${EDGELOG_DHCP_SOCKET:-/run/edgelog-dhcp/report.sock}" \
	--server "${EDGELOG_DHCP_SERVER:-}" -- "$@"
