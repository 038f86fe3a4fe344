//! The runtime's side: load configurations, run chains of plugins, remember results.
