//! The inverse of `Arbitrary`: encodes a value to bytes from which `Arbitrary` reads the same value. This turns
//! hand-written scripts into inputs for a fuzzer.

/// A value that can be encoded to bytes from which `Arbitrary` reads the same value.
pub(super) trait Encode {
    fn encode(&self, into: &mut Vec<u8>);
}

macro_rules! numbers {
    ($($number:ty),*) => {
        $(impl Encode for $number {
            fn encode(&self, into: &mut Vec<u8>) {
                into.extend(self.to_le_bytes());
            }
        })*
    };
}

numbers!(u8, u16);

impl Encode for bool {
    fn encode(&self, into: &mut Vec<u8>) {
        into.push(u8::from(*self));
    }
}

impl<const N: usize> Encode for [u8; N] {
    fn encode(&self, into: &mut Vec<u8>) {
        into.extend(self);
    }
}

impl<A: Encode, B: Encode> Encode for (A, B) {
    fn encode(&self, into: &mut Vec<u8>) {
        self.0.encode(into);
        self.1.encode(into);
    }
}

impl<T: Encode> Encode for Box<T> {
    fn encode(&self, into: &mut Vec<u8>) {
        (**self).encode(into);
    }
}

impl<T: Encode> Encode for Option<T> {
    fn encode(&self, into: &mut Vec<u8>) {
        self.is_some().encode(into);
        self.iter().for_each(|inner| inner.encode(into));
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, into: &mut Vec<u8>) {
        for item in self {
            true.encode(into);
            item.encode(into);
        }
        false.encode(into);
    }
}

/// Encodes the choice of a variant. `Arbitrary` reads 32 bits for it and scales them to the number of variants.
pub(super) fn encode_choice(at: usize, of: usize, into: &mut Vec<u8>) {
    let (at, of) = (at as u64, of as u64);
    // The middle of the range of numbers that select this variant.
    let number = ((2 * at + 1) << 31) / of;
    into.extend((number as u32).to_le_bytes());
}

/// Implements `Encode` for a struct with its fields, or for an enum with all of its variants in order.
macro_rules! impl_encode {
    (struct $name:ident { $($field:ident),* }) => {
        impl $crate::fuzzing::encode::Encode for $name {
            fn encode(&self, into: &mut Vec<u8>) {
                let Self { $($field),* } = self;
                $($field.encode(into);)*
            }
        }
    };
    (enum $name:ident { $($variant:ident $(($($item:ident),*))? $({$($field:ident),*})?,)* }) => {
        impl $crate::fuzzing::encode::Encode for $name {
            fn encode(&self, into: &mut Vec<u8>) {
                const ALL: &[&str] = &[$(stringify!($variant)),*];
                let mut choose = |variant| {
                    let at = ALL.iter().position(|name| *name == variant);
                    $crate::fuzzing::encode::encode_choice(at.expect("it is one of them"), ALL.len(), into);
                };
                match self {
                    $(Self::$variant $(($($item),*))? $({$($field),*})? => {
                        choose(stringify!($variant));
                        $($($item.encode(into);)*)?
                        $($($field.encode(into);)*)?
                    })*
                }
            }
        }
    };
}
pub(super) use impl_encode;
