// Command cmd drives the load generator by hand: it makes a laboratory, runs
// edgelog on its gateway, sends, and prints what was sent beside what edgelog
// says of it. Without a program it measures the generator alone.
//
//	go run ./tests/load/cmd -edgelog bin/edgelog -mode lives -family 6 -rate 100000 -duration 10s
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/edgelog/edgelog/tests/gateway"
	"github.com/edgelog/edgelog/tests/lab"
	"github.com/edgelog/edgelog/tests/load"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1) // everything is closed by now
	}
}

// flags are what the command line says.
func flags() (o load.Options, binary string, slots int, err error) {
	flag.StringVar(&binary, "edgelog", "", "the program to run on the gateway; none: nothing is attached there")
	flag.IntVar(&slots, "slots", 1<<22, "of its session table")
	mode := flag.String("mode", "lives", "established, new, lives, resets, handshakes, answers, flood, mix or visits")
	family := flag.String("family", "4", "4, 6 or both")
	flag.BoolVar(&o.Egress, "egress", false, "established and new: frames leave the gateway")
	flag.Uint64Var(&o.Seed, "seed", 0, "another seed gives other sessions")
	flag.Uint64Var(&o.First, "first", 0, "number of the first session")
	flag.Uint64Var(&o.Flows, "flows", 1<<16, "established: sessions")
	flag.IntVar(&o.Hosts, "hosts", 0, "local ends, a power of two; 0: 256")
	flag.Uint64Var(&o.Count, "count", 0, "sessions, or packets of established ones; 0: until the duration is over")
	flag.Float64Var(&o.Rate, "rate", 0, "of these per second; 0: full speed")
	flag.DurationVar(&o.Duration, "duration", 0, "0: until the count, or an interrupt")
	flag.IntVar(&o.Length, "length", 0, "of frames, bytes; 0: as short as can be")
	flag.IntVar(&o.CPU, "cpu", 0, "that the generator runs on")
	flag.BoolVar(&o.PassOn, "pass-on", false, "frames go on into the gateway's stack")
	flag.BoolVar(&o.Direct, "direct", false, "hand frames to edgelog's XDP program without any link")
	flag.BoolVar(&o.Lean, "lean", false, "without GRO; needs edgelog's XDP program on the uplink")
	flag.IntVar(&o.Wave, "wave", 0, "sessions that take a step together; 0: 64")
	tags := flag.Int("tags", 0, "VLAN tags, 0 to 2")
	flag.Parse()
	if o.Mode, err = load.ParseMode(*mode); err != nil {
		return o, "", 0, err
	}
	if o.Family = load.Both; *family != "both" {
		n, err := strconv.Atoi(*family)
		if err != nil {
			return o, "", 0, fmt.Errorf("family %q is not known: use 4, 6 or both", *family)
		}
		o.Family = load.Family(n)
	}
	for i := range *tags {
		o.Tags = append(o.Tags, uint16(100+i))
	}
	return o, binary, slots, nil
}

func run(ctx context.Context) (err error) {
	o, binary, slots, err := flags()
	if err != nil {
		return err
	}
	b, err := lab.OpenBorder(0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	on := load.On(b, o.Mode)
	o.Lab, o.Gateway, o.Uplink, o.Neighbour, o.Far, o.Local4, o.Local6 =
		on.Lab, on.Gateway, on.Uplink, on.Neighbour, on.Far, on.Local4, on.Local6
	if binary == "" {
		_, err := send(ctx, o)
		return err
	}
	return withAgent(ctx, b, o, binary, slots)
}

func send(ctx context.Context, o load.Options) (load.Sent, error) {
	g, err := load.Open(o)
	if err != nil {
		return load.Sent{}, err
	}
	s, err := g.Run(ctx)
	seconds := s.Took.Seconds()
	fmt.Printf("sent: %d sessions (%.0f a second), %d packets in and %d out (%.0f a second, %.0f ns of CPU time each), %d lost\n",
		s.Sessions, float64(s.Sessions)/seconds, s.In, s.Out, float64(s.Packets())/seconds,
		float64(s.Busy.Nanoseconds())/float64(max(1, s.Packets())), s.Lost)
	return s, errors.Join(err, g.Close())
}

func withAgent(ctx context.Context, b *lab.Border, o load.Options, binary string, slots int) error {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "edgelog-load-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	g, err := gateway.Open(ctx, b, dir, gateway.Options{Binary: binary, Slots: slots})
	if err != nil {
		return err
	}
	if err := g.Start(ctx); err != nil {
		return err
	}
	if _, err := send(ctx, o); err != nil {
		return err
	}
	text, err := g.Run(context.WithoutCancel(ctx), "status")
	fmt.Print(text)
	return err
}
