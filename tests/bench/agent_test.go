package bench

import (
	"context"
	"encoding/binary"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/edgelog/edgelog/tests/gateway"
	"github.com/edgelog/edgelog/tests/lab"
)

// resetFrame is a TCP RST from 10.x.y.z to a subscriber of the lab: a session
// of one packet that is over at once.
func resetFrame() []byte {
	f := append(make([]byte, 12), 0x08, 0x00)
	f = append(f, 0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 0, 192, 0, 2, 10)
	return append(f, 0x30, 0x39, 0x00, 0x50, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x04, 0, 0, 0, 0, 0, 0)
}

// BenchmarkAgentToDisk measures the real agent, from the kernel's table to
// sealed blocks that are durable: while it is stopped, a million sessions come
// into being in the pinned table, through the attached program; then it is
// started, and timed until the last one is stored.
func BenchmarkAgentToDisk(b *testing.B) {
	const sessions = 1 << 20
	binary := filepath.Join(b.TempDir(), "edgelog")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/edgelog").CombinedOutput(); err != nil {
		b.Fatalf("build edgelog: %v\n%s", err, out)
	}
	var took time.Duration
	for b.Loop() {
		took += backlog(b, binary, sessions)
	}
	b.ReportMetric(float64(b.N)*sessions/took.Seconds(), "sessions/s")
	b.ReportMetric(0, "ns/op")
}

func backlog(b *testing.B, program string, sessions uint64) time.Duration {
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute) // a bound for a hang
	defer cancel()
	border, err := lab.OpenBorder(0)
	if err != nil {
		b.Fatal(err)
	}
	defer border.Close()
	g, err := gateway.Open(ctx, border, b.TempDir(), gateway.Options{Binary: program, Slots: 1 << 22, Edit: map[string]string{
		"ring_bytes =": "ring_bytes = 67108864", "linger =": `linger = "100ms"`,
	}})
	if err != nil {
		b.Fatal(err)
	}
	if err := g.Start(ctx); err != nil {
		b.Fatal(err)
	}
	before, err := g.Status(ctx)
	if err != nil {
		b.Fatal(err)
	}
	if err := g.Stop(ctx); err != nil {
		b.Fatal(err)
	}
	fillTable(b, before.Probe.Uplinks[0].Ingress.Program, sessions)
	if err := g.Start(ctx); err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	if _, err := g.Until(ctx, "all is stored", func(s *gateway.Status) bool { return s.Probe.Table.Stored >= sessions }); err != nil {
		b.Fatal(err)
	}
	took := time.Since(start)
	if err := g.Stop(ctx); err != nil {
		b.Fatal(err)
	}
	return took
}

// fillTable runs the attached program on one frame for each session.
func fillTable(b *testing.B, id uint32, sessions uint64) {
	p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	f := resetFrame()
	for i := range uint32(sessions) {
		binary.BigEndian.PutUint32(f[26:], 10<<24|i)
		if _, err := p.Run(&ebpf.RunOptions{Data: f, Repeat: 1}); err != nil {
			b.Fatal(err)
		}
	}
}
