//! Connections between nodes: frames on their way, breaking, dialling, signs of life.
//!
//! A process sees its own end only. It learns of the end of a connection by the other side's word (a killed process's
//! kernel says it as well), by silence for four seconds, or because a newer connection replaces it. Power failures and
//! cuts tell nobody anything.

use super::host::{Mail, Process};
use super::network::{Fate, Load, Packet};
use super::observe::Happening;
use super::{Event, Life, Simulated, World};
use node::Application;

/// A link on which nothing was sent for this long gets a ping …
const PING_NS: u64 = 1_000_000_000;
/// … and one on which nothing was heard for this long is taken down.
pub(super) const SILENCE_NS: u64 = 4_000_000_000;
/// First and longest wait before dialling again.
const DIAL_NS: (u64, u64) = (20_000_000, 1_000_000_000);

impl<P: Simulated> World<'_, P> {
    /// Sends a frame to `to`, if there is a link.
    pub(crate) fn send(
        &mut self,
        i: usize,
        process: &mut Process<P>,
        to: usize,
        id: u64,
        load: Load<P::Message>,
    ) {
        let Some(link) = process.links.get_mut(to).and_then(Option::as_mut) else { return };
        link.said = self.now;
        let packet = Packet { from: i, to, session: link.session, id, order: 0, load };
        if !self.transmit(packet) {
            self.drop_link(i, process, to, true);
        }
    }

    /// Puts a frame on its way; false if the connection breaks.
    fn transmit(&mut self, mut packet: Packet<P::Message>) -> bool {
        self.figures.messages += 1;
        match self.net.send(self.now, &mut packet, &mut self.rng) {
            Fate::Arrives(at) => self.events.schedule(at, Event::Frame(packet)),
            Fate::Twice(at, again) => {
                self.events.schedule(at, Event::Frame(packet.clone()));
                self.events.schedule(again, Event::Frame(packet));
            }
            Fate::Lost => self.trace_lost(&packet),
            Fate::Breaks => return false,
        }
        true
    }

    /// A frame arrives.
    pub(crate) fn frame(&mut self, packet: Packet<P::Message>) {
        let to = packet.to;
        let mut hand = std::mem::take(&mut self.handing);
        self.net.arrived(packet, &mut hand);
        self.hand_over(to, &mut hand);
        self.handing = hand;
    }

    /// The cut from `from` to `to` has ended a while ago.
    pub(crate) fn release(&mut self, from: usize, to: usize) {
        let mut hand = std::mem::take(&mut self.handing);
        self.net.release(from, to, &mut hand);
        self.hand_over(to, &mut hand);
        self.handing = hand;
    }

    fn hand_over(&mut self, to: usize, hand: &mut Vec<Packet<P::Message>>) {
        let Some(process) = &mut self.hosts[to].process else { return hand.clear() };
        if hand.is_empty() {
            return;
        }
        for packet in hand.drain(..) {
            let Packet { from, session, id, load, .. } = packet;
            process.inbox.push(Mail::Frame { from, session, id, load });
        }
        self.mix(to as u64);
        self.poke(to);
    }

    /// Takes the own end of a link down.
    pub(crate) fn drop_link(&mut self, i: usize, process: &mut Process<P>, peer: usize, tell: bool) {
        let Some(link) = process.links[peer].take() else { return };
        let id = self.hosts[peer].id;
        process.downed.push(peer);
        process.replica.set_link(id, false);
        process.app.on_link(id, false);
        self.trace_link(i, peer, false);
        self.tell(i, Happening::Link { peer: id, up: false });
        if tell {
            self.say_end(i, peer, link.session);
        }
        self.dial_soon(i, peer);
    }

    /// The end of a connection goes on its way.
    pub(crate) fn say_end(&mut self, from: usize, to: usize, session: u64) {
        let packet = Packet { from, to, session, id: 0, order: 0, load: Load::End };
        // If it is lost the other end finds out by silence.
        let _ = self.transmit(packet);
    }

    /// Breaks the connection between two nodes; both are told.
    pub(crate) fn break_link(&mut self, a: usize, b: usize) {
        for (i, from) in [(a, b), (b, a)] {
            if let Some(process) = &mut self.hosts[i].process
                && let Some(link) = process.links[from]
            {
                let session = link.session;
                process.inbox.push(Mail::Frame { from, session, id: 0, load: Load::End });
                self.poke(i);
            }
        }
    }

    // ---- dialling ------------------------------------------------------------------------------------------

    /// The pair tries to connect in a while, unless it is trying.
    pub(crate) fn dial_soon(&mut self, a: usize, b: usize) {
        let pair = self.net.pair(a, b);
        if self.net.dialing[pair].is_none() {
            self.net.dialing[pair] = Some(0);
            let wait = DIAL_NS.0 / 2 + self.rng.below(DIAL_NS.0) + 2 * self.net.delay(&mut self.rng);
            self.events.schedule(self.now + wait, Event::Dial(a.min(b), a.max(b)));
        }
    }

    pub(crate) fn dial(&mut self, a: usize, b: usize) {
        let pair = self.net.pair(a, b);
        let attempt = self.net.dialing[pair].take().unwrap_or(0);
        let session =
            |i: usize, peer: usize| self.hosts[i].process.as_ref().map(|p| p.links[peer].map(|l| l.session));
        let (Some(of_a), Some(of_b)) = (session(a, b), session(b, a)) else {
            return; // whoever starts dials
        };
        if of_a.is_some() && of_a == of_b {
            return;
        }
        let reachable = !self.net.is_cut(a, b) && !self.net.is_cut(b, a);
        if reachable && self.hosts[a].is_up() && self.hosts[b].is_up() {
            let session = self.net.connect(a, b);
            for (i, peer) in [(a, b), (b, a)] {
                if let Some(process) = &mut self.hosts[i].process {
                    process.inbox.push(Mail::Up { peer, session });
                }
                self.poke(i);
            }
            return;
        }
        let longest = (DIAL_NS.0 << attempt.min(10)).min(DIAL_NS.1);
        let wait = longest / 2 + self.rng.below(longest);
        self.net.dialing[pair] = Some(attempt + 1);
        self.events.schedule(self.now + wait, Event::Dial(a, b));
    }

    // ---- signs of life -------------------------------------------------------------------------------------

    /// Pings quiet links and gives up silent ones, once a second.
    pub(crate) fn care(&mut self, i: usize) {
        let life = self.life(i);
        self.events.schedule(self.now + PING_NS, Event::Care(life));
        if self.hosts[i].paused || self.ready_at(i) > self.now {
            return;
        }
        let Some(mut process) = self.hosts[i].process.take() else { return };
        // What lies in the sockets is looked at first: the next care sees whether that was nothing.
        if process.inbox.is_empty() {
            for peer in 0..self.hosts.len() {
                let Some(link) = process.links[peer] else { continue };
                if self.now - link.heard >= SILENCE_NS {
                    self.drop_link(i, &mut process, peer, true);
                } else if self.now - link.said >= PING_NS {
                    self.send(i, &mut process, peer, 0, Load::Ping);
                }
            }
        }
        self.hosts[i].process = Some(process);
        self.poke(i);
    }

    /// This process of a node.
    pub(crate) fn life(&self, i: usize) -> Life {
        Life { host: i, life: self.hosts[i].life }
    }

    /// Whether that process still runs.
    pub(crate) fn is_alive(&self, of: Life) -> bool {
        let host = &self.hosts[of.host];
        host.life == of.life && host.process.is_some()
    }
}
