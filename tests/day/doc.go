// Package day makes realistic days of sessions, the same ones for the same
// seed, so that sizes and times can be measured without anybody's traffic.
//
// The life of a session:
//
//  1. A Poisson process, whose rate follows the hours of the day (Hours), says
//     when the agent hears of its end. Sessions come in that order.
//  2. A subscriber is drawn, and with it an end: address, port, device.
//  3. A use of the network is drawn (uses), and with it protocol, far end,
//     duration and the way it ends.
//  4. End is when the agent hears of it less the silence that it waited for, so
//     a session may belong to the day before; Start is End less the duration.
//
// The parameters, none of which depends on how edgelog keeps sessions:
//
//   - 10,000 subscribers, one session each a minute on average, 14.4 million a
//     day. How busy they are follows a Zipf law (s 1.1, v 200): the busiest has
//     some 36 times the median's.
//   - The busiest hour, 20 h UTC, has 1.7 times the mean; the quietest 0.3.
//   - Three subscribers in five have an IPv6 /56 beside IPv4, and 1 to 6 devices
//     with a random interface identifier that is renewed each day (RFC 8981).
//     55 % of their sessions are IPv6 where the use knows it.
//   - One subscriber in five shares an IPv4 address with 15 others behind a
//     translator, each with a block of 2,016 ports of its own, used at random;
//     address and port inside are known. Addresses are dense, in no order of
//     subscribers.
//   - Half of the devices draw source ports as Linux and Android do (32768 to
//     60999), half as Windows and Apple's do (49152 to 65535); at random each.
//   - Servers: 50,000 of IPv4 in some 12,000 networks of /24, 20,000 of IPv6, by a Zipf law
//     (s 1.15, v 8). Neither habits of one subscriber nor bursts of one page are modelled:
//     both would make the sessions more alike, and smaller than they are here.
//   - 34 % DNS to four public resolvers, 20 % QUIC, 23 % TLS, 3 % HTTP, 2 % mail
//     and push, 8 % between peers on random ports, a third of these of one
//     packet, 5 % scans from outside that nobody answers, 3 % ICMP, 2 % NTP.
//   - Durations are log-normal, median and sigma by use, at most 12 hours.
//   - Subscriber ids are user names such as "anna.jensen4711@isp.example".
package day
