"""The commands of `segserve`, each in the module of its name; `segserve.cli` puts them together.

On one image, with no server: segment, automatic, similar, semantic, instances. They share `single_image`.
Long work as jobs, here or by `--server URL`: batch, video, volume, track. They share `file_job` (one job on one file),
`prompt_options` (points and boxes on frames), `server_client` (upload, job, results, by the package
`segserve_client`) and `in_process_server`.
Processes that serve: serve, encoder, worker. They share `server_options`.
For all: `common_options` (data folder, model, `--param`) and `output_file` (format by suffix).
"""
