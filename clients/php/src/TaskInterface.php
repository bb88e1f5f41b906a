<?php

declare(strict_types=1);

namespace Taskbus;

/** What a class has to be that the API map names: `php = "Example\\GetFreeSpace"`. */
interface TaskInterface
{
    /**
     * Does the work of one call, or of one job.
     *
     * @return mixed a TaskResult; any other value is the one positional result
     * @throws \Throwable whatever is thrown is the failure; a TaskFailure chooses its error URI
     */
    public function run(TaskInput $task): mixed;
}
