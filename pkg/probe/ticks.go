package probe

import (
	"fmt"
	"math"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// The programs' clock counts timer ticks: CLOCK_MONOTONIC = base + ticks *
// tick. The length of a tick is the resolution of the coarse clocks, and the
// base is found by watching one go by. Both are kept beside the table, because
// its times are only as good as they are the same for all programs.

const tickTolerance = 3 // ticks; more between the two clocks is worth a warning

// readTicks runs the clock program.
func readTicks(p *ebpf.Program) (kernelClockReading, error) {
	var r kernelClockReading
	size := unsafe.Sizeof(r)
	run := ebpf.RunOptions{Data: make([]byte, size), DataOut: make([]byte, size), Repeat: 1}
	if _, err := p.Run(&run); err != nil {
		return r, explain("read the programs' clock", err)
	}
	r = *(*kernelClockReading)(unsafe.Pointer(&run.DataOut[0]))
	return r, nil
}

// measureTicks returns the length of a tick and the base: right after a tick
// the difference of the clocks is smallest.
func measureTicks(p *ebpf.Program) (tick, base uint64, err error) {
	var res unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &res); err != nil {
		return 0, 0, fmt.Errorf("ask for the length of a timer tick: %w", err)
	}
	tick = uint64(res.Nano())
	base = math.MaxUint64
	var first kernelClockReading
	for i := 0; ; i++ {
		r, err := readTicks(p)
		if err != nil {
			return 0, 0, err
		}
		if i == 0 {
			first = r
		}
		base = min(base, r.Monotonic-r.Ticks*tick) // wraps around alike in the kernel
		if r.Ticks-first.Ticks >= 3 || r.Monotonic-first.Monotonic > uint64(100*time.Millisecond) {
			return tick, base, nil
		}
	}
}

// checkTicks reports how far the programs' clock is from CLOCK_MONOTONIC.
func checkTicks(p *ebpf.Program, meta *kernelTableMeta) (time.Duration, error) {
	r, err := readTicks(p)
	if err != nil {
		return 0, err
	}
	behind := time.Duration(int64(r.Monotonic - (meta.TickBase + r.Ticks*meta.TickNs)))
	if tick := time.Duration(meta.TickNs); behind < -tick || behind > tickTolerance*tick {
		return behind, nil
	}
	return 0, nil
}
