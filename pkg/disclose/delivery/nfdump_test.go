package delivery

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestNfdumpReadsTheFlows sends the messages of the file to nfcapd, since nfdump
// reads no IPFIX files. The limits of 1.7.1: it drops userName and what says that
// a record is a sample; it shows the flags of the responder as those of the
// initiator; an end that was not recorded is 0.0.0.0; and of a translation from
// IPv6 to IPv4 it loses the IPv6 address, so that one is only counted.
func TestNfdumpReadsTheFlows(t *testing.T) {
	messages := split(t, member(t, sessionsDesk(t).zip(), "sessions.ipfix"))
	var got []string
	for _, r := range nfdump(t, messages) {
		text := func(keys ...string) string {
			for _, k := range keys {
				if v, ok := r[k]; ok {
					return fmt.Sprint(v)
				}
			}
			return "-"
		}
		got = append(got, strings.Join([]string{
			text("first"), text("last"), text("proto"), text("tcp_flags"), text("src6_addr", "src4_addr"), text("src_port"), text("dst6_addr", "dst4_addr"), text("dst_port"),
			"nat", text("src4_xlt_ip"), text("src_xlt_port"), text("dst4_xlt_ip"), text("dst_xlt_port"),
		}, " "))
	}
	const tcp = " 2025-03-01T11:11:00.007 6 ...A..SF "
	want := []string{
		"2025-03-01T11:10:00.000" + tcp + "192.0.2.10 4000 198.51.100.9 443 nat - - - -",
		"2025-03-01T11:10:01.000" + tcp + "100.64.0.5 51000 198.51.100.9 443 nat 192.0.2.10 4000 0.0.0.0 0",
		"2025-03-01T11:10:02.000" + tcp + "198.51.100.9 55555 192.0.2.10 2525 nat 0.0.0.0 0 100.64.0.6 25",
		"2025-03-01T11:10:03.000 2025-03-01T11:11:00.007 17 ........ 2001:db8::1 4000 2001:db8:f::2 443 nat - - - -",
		"",
		"2025-03-01T11:10:05.000 2025-03-01T11:11:00.007 1 - 192.0.2.10 - 198.51.100.9 - nat - - - -",
		"2025-03-01T11:10:06.000" + tcp + "192.0.2.10 4000 0.0.0.0 0 nat - - - -",
		"2025-03-01T11:10:07.000" + tcp + "192.0.2.10 4000 198.51.100.9 443 nat - - - -",
		"2025-03-01T11:10:08.000" + tcp + "192.0.2.10 4000 198.51.100.9 443 nat - - - -",
	}
	if len(got) > 4 {
		got[4] = ""
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// nfdump has nfcapd collect messages and returns what nfdump says of each flow.
func nfdump(t *testing.T, messages [][]byte) []map[string]any {
	t.Helper()
	collector, reader := program(t, "nfcapd"), program(t, "nfdump")
	dir, port := t.TempDir(), freePort(t)
	cmd := exec.Command(collector, "-w", dir, "-b", "127.0.0.1", "-p", strconv.Itoa(port), "-t", "3600", "-T", "all")
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	awaitQueue(t, port, func(waiting int, bound bool) bool { return bound })
	conn, err := net.Dial("udp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // nothing is sent any more
	for _, m := range messages {
		if _, err := conn.Write(m); err != nil {
			t.Fatal(err)
		}
	}
	awaitQueue(t, port, func(waiting int, bound bool) bool { return waiting == 0 })
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("nfcapd: %v\n%s", err, log.String())
	}
	read := exec.Command(reader, "-R", dir, "-o", "json")
	read.Env = append(os.Environ(), "TZ=UTC")
	text, err := read.Output()
	if err != nil {
		t.Fatal(err)
	}
	var out []map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return out
}

func freePort(t *testing.T) int {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // only its number is wanted
	return c.LocalAddr().(*net.UDPAddr).Port
}

// awaitQueue waits for a state of the socket of a port of 127.0.0.1: proc_net(5).
func awaitQueue(t *testing.T, port int, is func(waiting int, bound bool) bool) {
	t.Helper()
	end := fmt.Sprintf("0100007F:%04X", port)
	for tick := time.NewTicker(time.Millisecond); ; <-tick.C {
		if t.Context().Err() != nil {
			t.Fatal("nfcapd does not get there")
		}
		f, err := os.Open("/proc/net/udp")
		if err != nil {
			t.Fatal(err)
		}
		waiting, bound := 0, false
		for s := bufio.NewScanner(f); s.Scan(); {
			if w := strings.Fields(s.Text()); len(w) > 4 && w[1] == end {
				_, hex, _ := strings.Cut(w[4], ":")
				n, _ := strconv.ParseInt(hex, 16, 64)
				waiting, bound = int(n), true
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if is(waiting, bound) {
			return
		}
	}
}
