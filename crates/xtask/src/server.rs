use larder_testkit::RedisServer;

/// Runs something while a private server runs.
pub(crate) fn with(run: impl FnOnce(&str) -> Result<(), String>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let server = runtime
        .block_on(RedisServer::start())
        .map_err(|error| error.to_string())?;
    run(&server.url())
}
