package kernels

import "time"

// uplinkSteps load and attach: real packets over real virtio cards, with
// native XDP, and clsact or TCX after the kernel.
var uplinkSteps = []Step{
	{Name: "attach", Uses: "attach", Limit: 2 * time.Minute},
	{Name: "traffic", Uses: "traffic", Limit: 2 * time.Minute},
	{Name: "restart", Uses: "restart", Limit: 3 * time.Minute},
}

// costStep asks the verifier.
var costStep = Step{
	Name: "verifier", Command: []string{"/bin/" + probeTest, "-test.run=^TestTheVerifier"}, Limit: 10 * time.Minute,
}

// Short is what a change has to pass: it loads, attaches and records.
func Short() []Step {
	return append(append([]Step{}, uplinkSteps...),
		Step{Name: "drain", Uses: "drain", Limit: 2 * time.Minute}, costStep)
}

// Tests that depend on the kernel: of the lab, and black-box ones.
const (
	labTests   = "^(TestPacketsCross|TestRealPrograms|TestAHalfOpen|TestRadclient|TestTheLabHas)"
	blackTests = "^(TestRealTraffic|TestALinkThatIsNoLonger|TestATableIsNot|TestAnUplinkIs|TestASessionThatLeaves|TestARingThat|TestProgramsOfOthers|TestTheKernelsOwn)"
)

// nativeTests are left to the machine itself. The first two hold times to a tick
// of the timer, one of them while two processors do all they can: more than an
// emulated machine can promise. The others load all programs for each of many
// kills, which takes an emulated verifier a quarter of an hour.
const nativeTests = "^(TestSessionsStoredAreSessionsSent|TestTheProgramsClockIsTheMonotonic|" +
	"TestASessionThatSpansAnUpgrade|TestABringingOverThatIsKilled)"

// lateTick is how late the timer of an emulated machine may be. The kernel then
// makes up for it at once, so that nothing else depends on it.
const lateTick = "500ms"

// Full is all.
func Full() []Step {
	return append(append([]Step{}, uplinkSteps...),
		Step{Name: "load", Uses: "load", Limit: 5 * time.Minute},
		Step{Name: "drain", Uses: "drain", Limit: 2 * time.Minute},
		costStep,
		Step{Name: "datapath", Command: []string{"/bin/" + probeTest, "-test.skip=" + nativeTests}, Limit: 25 * time.Minute},
		Step{Name: "lab", Command: []string{"/bin/" + labTest, "-test.run=" + labTests}, Limit: 5 * time.Minute},
		Step{
			Name: "sessions", Command: []string{"/bin/" + blackTest, "-test.run=" + blackTests},
			Env: []string{"EDGELOG_BINARY=" + Agent, "EDGELOG_TICK=" + lateTick}, Limit: 25 * time.Minute,
		})
}
