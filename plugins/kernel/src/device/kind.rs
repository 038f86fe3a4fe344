//! What a virtual link is: the part of it that only its kind knows (IFLA_INFO_DATA).
//!
//! A value is sent as the library's type and read attribute by attribute, as link.rs reads links.

use std::fmt;

use rtnetlink::packet_route::link::{
    InfoData, InfoIpVlan, InfoMacVlan, InfoVlan, InfoVrf, IpVlanFlags, IpVlanMode, MacVlanMode as InfoMode,
};

use crate::attribute::{number, within};
use crate::link::Link;

/// The kind of a virtual link, and what that says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Has its parent's wire and a hardware address of its own.
    Macvlan {
        /// Who may speak to whom.
        mode: MacvlanMode,
        /// How many broadcast frames may wait to be copied; the kernel's 1000 if `None`. One queue serves all macvlans of a
        /// parent, and is as long as the longest that one of them asks for. Needs Linux 5.12.
        broadcast_queue: Option<u32>,
    },
    /// Has its parent's wire and its parent's hardware address.
    Ipvlan {
        /// Which layer it works on.
        mode: IpvlanMode,
        /// Who may speak to whom.
        flag: IpvlanFlag,
    },
    /// One VLAN (802.1Q) of its parent's wire.
    Vlan {
        /// Its ID, 1 to 4094.
        id: u16,
    },
    /// Takes every packet and drops it.
    Dummy,
    /// Turns what is redirected to it around: what a link receives can be queued as if it were sent.
    Ifb,
    /// Its ports are routed by a table of their own.
    Vrf {
        /// The table, not 0.
        table: u32,
    },
    /// A device that a program reads and writes: packets (tun), or frames (tap). Read only.
    Tun {
        /// Frames?
        tap: bool,
        /// Does it stay when no program has it open?
        persistent: bool,
    },
}

/// Who may speak to whom, of macvlans on one parent (MACVLAN_MODE_…).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacvlanMode {
    /// None with another.
    Private,
    /// By way of a switch that sends frames back where they came from.
    Vepa,
    /// Each with each other.
    Bridge,
    /// There is only this one, and it has its parent's hardware address.
    Passthru,
    /// From listed hardware addresses only.
    Source,
}

/// Which layer an ipvlan works on (IPVLAN_MODE_…). All ipvlans of a parent have one mode: the last that was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpvlanMode {
    /// Frames: broadcast and neighbor discovery work.
    L2,
    /// Packets: the parent's namespace routes.
    L3,
    /// As L3, and the node's netfilter sees the packets.
    L3s,
}

/// Who may speak to whom, of ipvlans on one parent (IPVLAN_F_…). Needs Linux 4.15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpvlanFlag {
    /// Each with each other.
    Bridge,
    /// None with another.
    Private,
    /// By way of a switch that sends frames back where they came from.
    Vepa,
}

impl Kind {
    /// The kernel's word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Macvlan { .. } => "macvlan",
            Kind::Ipvlan { .. } => "ipvlan",
            Kind::Vlan { .. } => "vlan",
            Kind::Dummy => "dummy",
            Kind::Ifb => "ifb",
            Kind::Vrf { .. } => "vrf",
            Kind::Tun { .. } => "tun",
        }
    }

    /// The kernel's build option.
    pub(super) fn option(&self) -> &'static str {
        match self {
            Kind::Macvlan { .. } => "CONFIG_MACVLAN",
            Kind::Ipvlan { .. } => "CONFIG_IPVLAN",
            Kind::Vlan { .. } => "CONFIG_VLAN_8021Q",
            Kind::Dummy => "CONFIG_DUMMY",
            Kind::Ifb => "CONFIG_IFB",
            Kind::Vrf { .. } => "CONFIG_NET_VRF",
            Kind::Tun { .. } => "CONFIG_TUN and a program that opens /dev/net/tun: no message makes one",
        }
    }

    /// Is a link that says `found` of itself what was asked for? A queue of macvlans is as long as the longest asked for.
    pub(super) fn is_met_by(&self, found: &Kind) -> bool {
        match (*self, *found) {
            (Kind::Macvlan { mode, broadcast_queue: None }, Kind::Macvlan { mode: found, .. }) => mode == found,
            (wanted, found) => wanted == found,
        }
    }

    pub(super) fn data(&self) -> Option<InfoData> {
        match *self {
            Kind::Macvlan { mode, broadcast_queue } => {
                let queue = broadcast_queue.map(InfoMacVlan::BcQueueLen);
                let mode = InfoMacVlan::Mode(InfoMode::from(mode.number()));
                Some(InfoData::MacVlan(queue.into_iter().chain([mode]).collect()))
            }
            Kind::Ipvlan { mode, flag } => {
                let flags = IpVlanFlags::from_bits_retain(flag.number());
                Some(InfoData::IpVlan(vec![
                    InfoIpVlan::Mode(IpVlanMode::from(mode.number())),
                    InfoIpVlan::Flags(flags),
                ]))
            }
            Kind::Vlan { id } => Some(InfoData::Vlan(vec![InfoVlan::Id(id)])),
            Kind::Vrf { table } => Some(InfoData::Vrf(vec![InfoVrf::TableId(table)])),
            Kind::Dummy | Kind::Ifb | Kind::Tun { .. } => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Macvlan { mode, broadcast_queue: None } => write!(f, "macvlan of mode {mode:?}"),
            Kind::Macvlan { mode, broadcast_queue: Some(frames) } => {
                write!(f, "macvlan of mode {mode:?} with a queue of {frames}")
            }
            Kind::Ipvlan { mode, flag } => write!(f, "ipvlan of mode {mode:?} and flag {flag:?}"),
            Kind::Vlan { id } => write!(f, "vlan {id}"),
            Kind::Vrf { table } => write!(f, "vrf of table {table}"),
            Kind::Dummy | Kind::Ifb => f.write_str(self.name()),
            Kind::Tun { tap, .. } => f.write_str(if *tap { "tap" } else { "tun" }),
        }
    }
}

/// Numbers of the kernel for the values of a type, both ways.
macro_rules! numbers {
    ($type:ident: $number:ty { $($value:ident = $is:literal),* }) => {
        impl $type {
            fn number(self) -> $number {
                match self {
                    $($type::$value => $is,)*
                }
            }

            fn of(number: $number) -> Option<Self> {
                match number {
                    $($is => Some($type::$value),)*
                    _ => None,
                }
            }
        }
    };
}

numbers!(MacvlanMode: u32 { Private = 1, Vepa = 2, Bridge = 4, Passthru = 8, Source = 16 });
numbers!(IpvlanMode: u16 { L2 = 0, L3 = 1, L3s = 2 });
numbers!(IpvlanFlag: u16 { Bridge = 0, Private = 1, Vepa = 2 });

/// Reads what a link says of itself; none if it is of another kind, or in a mode that is not listed here.
pub fn read(link: &Link) -> Option<Kind> {
    let one = |kind| within(&link.data, kind);
    let long = |kind| one(kind).and_then(number);
    let short = |kind| one(kind).and_then(|value| value.first_chunk()).map(|bytes| u16::from_ne_bytes(*bytes));
    let byte = |kind| one(kind).and_then(|value| value.first().copied());
    const IFLA_MACVLAN_MODE: u16 = 1;
    const IFLA_MACVLAN_BC_QUEUE_LEN: u16 = 7;
    const IFLA_IPVLAN_MODE: u16 = 1;
    const IFLA_IPVLAN_FLAGS: u16 = 2;
    const IFLA_VLAN_ID: u16 = 1;
    const IFLA_VRF_TABLE: u16 = 1;
    const IFLA_TUN_TYPE: u16 = 3;
    const IFLA_TUN_PERSIST: u16 = 6;
    const IFF_TAP: u8 = 2;
    Some(match link.kind.as_str() {
        "macvlan" => Kind::Macvlan {
            mode: MacvlanMode::of(long(IFLA_MACVLAN_MODE)?)?,
            broadcast_queue: long(IFLA_MACVLAN_BC_QUEUE_LEN),
        },
        "ipvlan" => Kind::Ipvlan {
            mode: IpvlanMode::of(short(IFLA_IPVLAN_MODE)?)?,
            flag: IpvlanFlag::of(short(IFLA_IPVLAN_FLAGS).unwrap_or_default())?,
        },
        "vlan" => Kind::Vlan { id: short(IFLA_VLAN_ID)? },
        "vrf" => Kind::Vrf { table: long(IFLA_VRF_TABLE)? },
        "tun" => Kind::Tun { tap: byte(IFLA_TUN_TYPE)? == IFF_TAP, persistent: byte(IFLA_TUN_PERSIST)? != 0 },
        "dummy" => Kind::Dummy,
        "ifb" => Kind::Ifb,
        _ => return None,
    })
}
