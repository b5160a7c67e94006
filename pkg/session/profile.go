package session

import "fmt"

// Profile names how much of a session may be recorded. It is enforced where
// the packet is seen, in the kernel: a field outside the profile never reaches
// user space. The numbers are stored in blocks and never reused.
type Profile uint8

// The profiles, from the least recorded to the most.
const (
	ProfileAccess    Profile = 1 // access records only, no session
	ProfileSource    Profile = 2 // use of a local address and port: no destination
	ProfileSession   Profile = 3 // both endpoints of each session (BEK 988/2006 § 5 stk. 1)
	ProfileSample500 Profile = 4 // every 500th packet of each end user (BEK 988/2006 § 5 stk. 4)
)

var profiles = map[Profile]string{
	ProfileAccess: "access", ProfileSource: "source", ProfileSession: "session", ProfileSample500: "sample500",
}

// String returns the name as it stands in the configuration.
func (p Profile) String() string {
	if s, ok := profiles[p]; ok {
		return s
	}
	return fmt.Sprintf("profile-%d", uint8(p))
}

// NeedsLegalBasis reports whether the profile may only be used with a legal
// basis named in the configuration.
func (p Profile) NeedsLegalBasis() bool { return p == ProfileSession || p == ProfileSample500 }

// RecordsSessions reports whether the profile records sessions, of both ends or
// one.
func (p Profile) RecordsSessions() bool { return p == ProfileSource || p == ProfileSession }

// ParseProfile returns the profile of that name.
func ParseProfile(name string) (Profile, error) {
	for p, s := range profiles {
		if s == name {
			return p, nil
		}
	}
	return 0, fmt.Errorf("profile %q is not known: use access, source, session or sample500", name)
}
