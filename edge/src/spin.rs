//! Spin. The only file that names `spin_sdk`.
